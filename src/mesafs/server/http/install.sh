#!/bin/sh
# Installs the mesa command from the server that sent this:
#
#   curl -fsSL SERVER/install.sh | sh [-s -- --yes]
#
# Everything is in one block that ends on the last line, so a download that was cut does nothing.
{
  mesa_install() {
    set -eu
    umask 022
    server=@SERVER@

    python=
    for candidate in /usr/local/bin/python3 /usr/bin/python3 /bin/python3 \
      "$(command -v python3 || :)" "$(command -v python3.13 || :)" \
      "$(command -v python3.12 || :)" "$(command -v python3.11 || :)"; do
      if [ -x "$candidate" ] && "$candidate" -I -c \
        'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null; then
        python=$candidate
        break
      fi
    done
    if [ -z "$python" ]; then
      echo "mesa: missing: python3, 3.11 or newer; on Debian: apt-get install python3" >&2
      echo "mesa: nothing was changed" >&2
      return 1
    fi

    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' HUP INT TERM
    cat >"$work/installer.py" <<'END_OF_INSTALLER'
@PROGRAM@
END_OF_INSTALLER

    root=
    if [ "$(id -u)" -ne 0 ] && [ -z "${MESA_INSTALL_PREFIX:-}" ] && [ -x /usr/bin/sudo ] \
      && /usr/bin/sudo -n true </dev/null 2>/dev/null; then
      root="/usr/bin/sudo -n"
    fi
    "$python" -I "$work/installer.py" fetch --server "$server" --work "$work" \
      --sha256 "${MESA_SHA256:-}" --ca-file "${MESA_CA_FILE:-}" "$@" </dev/null
    $root "$python" -I "$work/installer.py" place --server "$server" --work "$work" \
      --home "${HOME:-/}" --path "$PATH" --config-home "${XDG_CONFIG_HOME:-}" \
      --prefix "${MESA_INSTALL_PREFIX:-}" "$@" </dev/null
    "$python" -I "$work/installer.py" check </dev/null
  }
  mesa_install "$@"
}
