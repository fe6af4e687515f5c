"""What the daemons started by ``tests/mount/test_daemonize.py`` run."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from mesafs.base.errors import Denied
from mesafs.mount.daemonize import Report

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
