"""What the daemons started by ``tests/mount/test_daemonize.py`` run."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

from mesafs.base.clock import SystemClock
from mesafs.base.errors import Denied
from mesafs.mount.control import ControlServer, Instance
from mesafs.mount.daemonize import Report
from mesafs.mount.fuse import mounting
from mesafs.mount.fuse.session import Session, SessionOptions
from support.tiny_filesystem import Tiny

_LOG = logging.getLogger("mesafs.test")
_ENDING = {signal.SIGTERM}


def ready(settings: dict[str, Any], report: Report) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    report.ready(
        session=os.getsid(0),
        cwd=str(Path.cwd()),
        credential=settings["credential"],
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
    )
    signal.sigwait(_ENDING)
    return 0


def denied(_settings: dict[str, Any], _report: Report) -> int:
    raise Denied("the key was revoked", hint="make another")


def crash(_settings: dict[str, Any], _report: Report) -> int:
    raise RuntimeError("a bug before it was ready")


def killed(_settings: dict[str, Any], _report: Report) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def never(_settings: dict[str, Any], _report: Report) -> int:
    threading.Event().wait()
    return 0


def mounted(settings: dict[str, Any], report: Report) -> int:
    """A mount of one file with the verbs that a daemon has."""
    target, runtime = Path(settings["mount_point"]), Path(settings["runtime"])
    session = Session(
        mounting.mount_root(target),
        Tiny({b"a": b"hello\n"}).table(),
        options=SessionOptions(),
        log=_LOG,
    )

    def unmount(_arguments: dict[str, Any]) -> dict[str, Any]:
        mounting.unmount(target)
        return {}

    def status(_arguments: dict[str, Any]) -> dict[str, Any]:
        repository = {"name": "org/repo", "bookmark": "main", "change": "z" * 32, "unpublished": 2}
        return {"server": "http://here", "repositories": [repository]}

    def sync(arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments

    instance = Instance.new(target, clock=SystemClock(), log_file=Path(settings["log_file"]))
    verbs = {"unmount": unmount, "status": status, "sync": sync}
    server = ControlServer(runtime, instance, verbs, log=_LOG)
    server.start()
    serving = threading.Thread(target=session.serve, daemon=True)
    serving.start()
    session.initialised.wait(10)
    report.ready()
    serving.join()
    server.close()
    session.close()
    return 0
