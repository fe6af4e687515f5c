"""The program inside ``install.sh``: fetches the client, puts it in its place, says what is missing.

It is sent to machines that have nothing of ours yet, so it imports only the standard library, runs
under ``python3 -I`` and takes everything as arguments. The server sends its text; nothing here runs
in the server.

Invariant: whatever is found under ``mesa/<version>`` is complete and was checked, and the command
starts the old version or the new one: both are switched by one rename.
"""

from __future__ import annotations

import argparse
import compileall
import io
import json
import os
import re
import shutil
import ssl
import stat
import sys
import tarfile
import tempfile
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from hashlib import sha256
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, NoReturn

MAX_BYTES = 64 << 20
TIMEOUT_SECONDS = 30
STALE_SECONDS = 3600
MARK = "# set by install.sh"
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
SAFE_VERSION = re.compile(r"[0-9]+(\.[0-9]+){1,3}([a-z0-9.+-]{0,32})")


def main() -> int:
    arguments = _arguments()
    if arguments.action == "fetch":
        fetch(arguments)
    elif arguments.action == "place":
        place(arguments)
    else:
        report_missing()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="install.sh", description="Install the mesa command.")
    parser.add_argument("action", choices=("fetch", "place", "check"), help=argparse.SUPPRESS)
    for name in ("server", "work", "home", "path", "config-home", "prefix", "sha256", "ca-file"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    parser.add_argument("-y", "--yes", action="store_true", help="ask nothing (it never does)")
    parser.add_argument("--insecure", action="store_true", help="no warning about plain http")
    parser.add_argument("--downgrade", action="store_true", help="replace a newer version too")
    return parser.parse_args()


def say(text: str) -> None:
    sys.stdout.write(f"mesa: {text}\n")
    sys.stdout.flush()


def give_up(text: str) -> NoReturn:
    sys.stderr.write(f"mesa: {text}\nmesa: nothing was changed\n")
    raise SystemExit(1)


# Fetching, as the user who called.


def fetch(arguments: argparse.Namespace) -> None:
    """Leave a checked archive and its description in the work folder."""
    server, work = arguments.server, Path(arguments.work)
    opener = _opener(arguments.ca_file)
    version, size, digest = _facts(server, _get(opener, f"{server}/install.json", 1 << 20))
    if arguments.sha256 and arguments.sha256.lower() != digest:
        give_up(f"the server offers sha256 {digest}, and MESA_SHA256 asks for another")
    content = _get(opener, f"{server}/client.tar.gz", size)
    if len(content) != size or sha256(content).hexdigest() != digest:
        give_up(
            f"the download is not whole: {len(content)} of {size} bytes, or other ones than announced"
        )
    if not (arguments.sha256 or arguments.insecure or _protected(server)):
        say(f"warning: {server} is plain http, which protects neither this script nor the client;")
        say(f"warning: compare this with what the server's owner says: sha256 {digest}")
    (work / "client.tar.gz").write_bytes(content)
    (work / "client.json").write_text(json.dumps({"version": version, "sha256": digest}))


def _facts(server: str, text: bytes) -> tuple[str, int, str]:
    try:
        facts = json.loads(text)
        version, size, digest = facts["version"], facts["size"], facts["sha256"]
        sound = (
            SAFE_VERSION.fullmatch(version)
            and re.fullmatch(r"[0-9a-f]{64}", digest)
            and 0 < int(size) <= MAX_BYTES
        )
    except (KeyError, TypeError, ValueError):
        sound = version = size = digest = None
    if not sound:
        give_up(f"{server}/install.json is not what a mesa server answers")
    return version, size, digest


def _protected(server: str) -> bool:
    parts = urllib.parse.urlsplit(server)
    host = parts.hostname or ""
    return parts.scheme == "https" or host in ("localhost", "::1") or host.startswith("127.")


class _SameHostOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            give_up(f"{req.full_url} sends on to another server, {new.scheme}://{new.netloc}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(ca_file: str) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context(cafile=ca_file or None)
    return urllib.request.build_opener(
        _SameHostOnly(), urllib.request.HTTPSHandler(context=context)
    )


def _get(opener: urllib.request.OpenerDirector, url: str, limit: int) -> bytes:
    """At most ``limit`` bytes and one, so that too much is noticed."""
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read(limit + 1)
            return content
    except urllib.error.HTTPError as error:
        with error:
            give_up(f"{url} answered {error.code} {error.reason}")
    except (OSError, HTTPException) as error:
        give_up(f"{url} cannot be read: {error}")


# Placing, as root or as the user.


def place(arguments: argparse.Namespace) -> None:
    work = Path(arguments.work)
    facts = json.loads((work / "client.json").read_text())
    content = (work / "client.tar.gz").read_bytes()
    if sha256(content).hexdigest() != facts["sha256"]:
        give_up("the download changed after it was checked")
    binaries, library = _places(arguments)
    command = binaries / "mesa"
    _refuse_foreign(command, library)
    _refuse_downgrade(library, facts["version"], allowed=arguments.downgrade)

    folder = library / f"{facts['version']}-{facts['sha256'][:12]}"
    try:
        _unpack(content, folder)
        _switch(library / "current", folder.name)
        _write_launcher(command, library / "current" / "launch.py")
    except OSError as error:
        give_up(f"cannot write {error.filename or library}: {error.strerror}")
    say(f"{facts['version']} is installed: {command}")
    if str(binaries) not in arguments.path.split(":"):
        say(f'{binaries} is not on your PATH; add it: export PATH="{binaries}:$PATH"')
    remember_server(_config_file(arguments), arguments.server)


def _places(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Where the command goes, and the folder that holds the versions."""
    if arguments.prefix:
        prefix = Path(arguments.prefix)
        return prefix / "bin", prefix / "lib" / "mesa"
    if os.geteuid() == 0:
        return Path("/usr/local/bin"), Path("/usr/local/lib/mesa")
    home = Path(arguments.home)
    for entry in arguments.path.split(":"):
        if entry.startswith("/") and _is_mine(Path(entry)):
            return Path(entry), home / ".local/lib/mesa"
    return home / ".local/bin", home / ".local/lib/mesa"


def _is_mine(folder: Path) -> bool:
    try:
        facts = folder.stat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(facts.st_mode)
        and facts.st_uid == os.geteuid()
        and not facts.st_mode & stat.S_IWOTH
        and os.access(folder, os.W_OK)
    )


def _refuse_foreign(command: Path, library: Path) -> None:
    for folder in (command.parent, library):
        if folder.exists():
            facts = folder.stat()
            if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & stat.S_IWOTH:
                give_up(f"{folder} belongs to somebody else or everybody may write in it")
    if command.is_dir() or (command.exists() and b"mesa" not in command.read_bytes()[:4096]):
        give_up(f"{command} is another program; move it away first")


def _refuse_downgrade(library: Path, version: str, *, allowed: bool) -> None:
    try:
        installed = (library / "current").readlink().name.partition("-")[0]
    except OSError:
        return
    if not allowed and _numbers(installed) > _numbers(version):
        give_up(f"{installed} is installed and newer than {version}; --downgrade replaces it")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))


def _unpack(content: bytes, folder: Path) -> None:
    """Make ``folder`` appear whole. Its name holds the digest, so one that exists is the same."""
    folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _sweep(folder.parent)
    if folder.is_dir():
        return
    staged = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                if not member.isfile() or not SAFE_NAME.fullmatch(member.name):
                    give_up(f"the archive holds {member.name!r}, which has no place in a client")
                source = archive.extractfile(member)
                assert source is not None, "a file of an archive can be read"
                target = staged / member.name
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                target.write_bytes(source.read())
        compileall.compile_dir(
            staged,
            quiet=2,
            stripdir=str(staged),
            prependdir=str(folder),
        )
        staged.chmod(0o755)
        staged.rename(folder)
    except BaseException as error:
        shutil.rmtree(staged, ignore_errors=True)
        # Another install at the same time put the same bytes there first.
        if not (isinstance(error, OSError) and folder.is_dir()):
            raise


def _sweep(library: Path) -> None:
    """What a killed install left behind, once it is surely dead."""
    for left in library.glob(".new-*"):
        try:
            if time.time() - left.lstat().st_mtime > STALE_SECONDS:  # noqa: TID251 - a program of its own
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:
            continue


def _switch(link: Path, target: str) -> None:
    aside = Path(tempfile.mkdtemp(prefix=".new-", dir=link.parent))
    try:
        (aside / "link").symlink_to(target)
        (aside / "link").rename(link)
    finally:
        aside.rmdir()


def _write_launcher(command: Path, script: Path) -> None:
    command.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = (
        "#!/bin/sh\n"
        "# mesa, put here by install.sh\n"
        f'exec {_quoted(sys.executable)} -IS {_quoted(str(script))} "$@"\n'
    )
    _write_aside(command, text, 0o755)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _write_aside(target: Path, text: str, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
    staged = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        staged.chmod(mode)
        staged.rename(target)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


# The config file.


def _config_file(arguments: argparse.Namespace) -> Path:
    if os.geteuid() == 0 and not arguments.prefix:
        return Path("/etc/mesa/config.toml")
    home = arguments.config_home or f"{arguments.home}/.config"
    return Path(home) / "mesa" / "config.toml"


def remember_server(config: Path, server: str) -> None:
    """Write ``api-url``, unless the user has written one; everything else in the file stays."""
    line = f"api-url = {json.dumps(server)} {MARK}\n"
    try:
        config = config.resolve()
        text = config.read_text(encoding="utf-8") if config.exists() else ""
        known: Any = tomllib.loads(text).get("api-url")
        rest = [old for old in text.splitlines(keepends=True) if not _is_ours(old)]
        if known is not None and len(rest) == len(text.splitlines()):
            if known != server:
                say(f"{config} names another server, {known}; it stays so")
            return
        config.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        mode = stat.S_IMODE(config.stat().st_mode) if text else 0o644
        _write_aside(config, line + "".join(rest), mode)
    except (OSError, ValueError) as error:
        say(f"cannot write api-url into {config}: {error}")
        say(f"set MESA_API_URL={server} instead")


def _is_ours(line: str) -> bool:
    return line.startswith("api-url") and line.rstrip().endswith(MARK)


# What a mount will miss, as the user who called.


def report_missing() -> None:
    if os.geteuid() != 0:
        if shutil.which("fusermount3") is None:
            say("missing: fusermount3, to mount without root; on Debian: apt-get install fuse3")
        if not _allows_other():
            say("missing: user_allow_other, so that programs of other users see the mount;")
            say("  as root: echo user_allow_other >> /etc/fuse.conf")
    device = Path("/dev/fuse")
    if not device.exists():
        say("missing: /dev/fuse; modprobe fuse, or give it to the container: --device /dev/fuse")
    elif not os.access(device, os.R_OK | os.W_OK):
        say("missing: the right to open /dev/fuse; as root: chmod 666 /dev/fuse")


def _allows_other() -> bool:
    try:
        lines = Path("/etc/fuse.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return "user_allow_other" in (line.partition("#")[0].strip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
