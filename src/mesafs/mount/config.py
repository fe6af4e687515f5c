"""Where a mount keeps what: settings of the client turned into the folders of a daemon.

The environment is an argument here; a daemon gets none of it but what ``child_environment``
lets through, since an environment is readable by everyone of the same user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PASSED_ON = ("HOME", "LANG", "LOGNAME", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ", "USER")


@dataclass(frozen=True, slots=True)
class Places:
    """``state`` survives restarts, ``runtime`` holds sockets and instance files, ``logs`` the logs."""

    state: Path
    runtime: Path
    logs: Path


def places(environ: Mapping[str, str], *, runtime: Path | None = None) -> Places:
    """Folders of this user; for sockets the first of ``MESA_RUNTIME_DIR``, ``runtime`` (what a
    configuration file says), ``XDG_RUNTIME_DIR``, the state folder. Never ``/tmp``.
    """
    state_home = Path(environ.get("XDG_STATE_HOME") or "")
    if not state_home.is_absolute():
        state_home = Path(environ.get("HOME") or "~").expanduser() / ".local/state"
    state = state_home / "mesa"
    named, session = environ.get("MESA_RUNTIME_DIR"), environ.get("XDG_RUNTIME_DIR")
    if named:
        runtime = Path.cwd() / named
    elif runtime is not None:
        pass
    elif session and Path(session).is_dir():
        runtime = Path(session) / "mesa"
    else:
        runtime = state / "run"
    return Places(state, runtime, state / "logs")


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a daemon or its helpers may see: no credential, nothing that changes how Python loads."""
    return {
        name: value
        for name, value in environ.items()
        if name in _PASSED_ON or name.startswith(("LC_", "XDG_"))
    }
