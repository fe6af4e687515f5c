"""Starting a daemon that says when it is ready, and handing it the credential where nobody looks.

The parent starts a fresh interpreter in a session of its own. Settings and credential go through a
pipe, never through arguments or the environment, which any process of the same user can read. The
child answers one line on another pipe: ready, or the error with its remedy and exit status.

Invariant: the parent returns within its time limit, and either a ready daemon lives or none does.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mesafs.base.clock import Clock, SystemClock
from mesafs.base.errors import EXIT_STATUS, ErrorKind, MesaError, Unavailable
from mesafs.mount.logging import open_log

READY_SECONDS = 30.0
_REPORT_FD = 3
_PR_SET_DUMPABLE = 4

#: What runs in the child: settings as given to ``launch``, and where to report.
Entry = Callable[[dict[str, Any], "Report"], int]


class DaemonFailed(MesaError):
    """The child ended or reported an error before it was ready; ``exit_status`` is to be passed on."""

    kind = ErrorKind.UNAVAILABLE

    def __init__(self, message: str, *, hint: str | None, exit_status: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_status = exit_status


@dataclass(frozen=True, slots=True)
class Started:
    """A daemon that is ready."""

    pid: int
    #: What the child passed to ``Report.ready``.
    answer: dict[str, Any]


class Report:
    """The child's end: exactly one of ``ready`` and ``failed`` counts, later ones do nothing."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def ready(self, **answer: Any) -> None:
        self._say({"ready": answer})

    def failed(self, error: MesaError) -> None:
        self._say({"error": error.message, "hint": error.hint, "exit": EXIT_STATUS[error.kind]})

    def _say(self, message: dict[str, Any]) -> None:
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        with suppress(BrokenPipeError):  # the parent gave up waiting
            os.write(fd, json.dumps(message).encode() + b"\n")
        os.close(fd)


def launch(
    entry: str,
    settings: Mapping[str, Any],
    *,
    environ: Mapping[str, str],
    log_file: Path,
    timeout: float = READY_SECONDS,
    clock: Clock | None = None,
) -> Started:
    """Run ``entry`` ("package.module:function") in a new process and wait until it is ready.

    ``settings`` is anything JSON can say and may hold the credential. ``environ`` is the whole
    environment of the child (``config.child_environment``). Raises :class:`DaemonFailed` with the
    child's own message, and :class:`Unavailable` after ``timeout``, when the child is ended.
    """
    clock = clock or SystemClock()
    deadline = clock.monotonic() + timeout
    handed_over = json.dumps(dict(settings)).encode()
    assert len(handed_over) < 65536, "more than a pipe takes without a reader"
    log = open_log(log_file)
    settings_out, settings_in = os.pipe2(os.O_CLOEXEC)
    report_out, report_in = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-c", _program(), entry],
            dict(environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, settings_out, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, report_in, _REPORT_FD),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )
        for fd in (settings_out, report_in):
            os.close(fd)
        settings_out = report_in = -1
        with suppress(BrokenPipeError):  # a child that died says more below
            os.write(settings_in, handed_over)
        os.close(settings_in)
        settings_in = -1
        line = _first_line(report_out, deadline, clock)
    finally:
        os.close(log)
        for fd in (settings_out, settings_in, report_out, report_in):
            if fd >= 0:
                os.close(fd)
    return _outcome(pid, line, log_file, timeout)


def _outcome(pid: int, line: bytes | None, log_file: Path, timeout: float) -> Started:
    if line is None:
        _reap(pid, 0)
        raise Unavailable(
            f"the mount was not ready after {timeout:g} seconds", hint=f"its log: {log_file}"
        )
    try:
        message = json.loads(line)
    except ValueError:
        message = {}
    if "ready" in message:
        return Started(pid, message["ready"])
    status = _reap(pid)
    if "error" in message:
        raise DaemonFailed(message["error"], hint=message["hint"], exit_status=message["exit"])
    how = f"signal {-status}" if status < 0 else f"status {status}"
    raise DaemonFailed(
        f"the daemon ended with {how} before it was ready",
        hint=f"its log: {log_file}",
        exit_status=70,
    )


def _program() -> str:
    """Finds this package in the child without PYTHONPATH, wherever the installer has put it."""
    root = os.fspath(Path(__file__).parents[2])
    return f"import sys; sys.path.insert(0, {root!r}); from mesafs.mount.daemonize import child; child()"


def child() -> NoReturn:
    """The child's first function: hide, read the settings, run the entry, exit with its status."""
    harden()
    os.chdir("/")
    os.umask(0o077)
    os.set_inheritable(_REPORT_FD, False)  # noqa: FBT003 - its only spelling
    os.closerange(_REPORT_FD + 1, 1 << 20)  # what the starter's parents left open is not ours
    report = Report(_REPORT_FD)
    with os.fdopen(0, "rb") as pipe:
        settings = json.loads(pipe.read())
    os.open("/dev/null", os.O_RDONLY)  # takes number 0, which must not become a file of ours
    module, _, name = sys.argv[1].partition(":")
    try:
        entry: Entry = getattr(importlib.import_module(module), name)
        status = entry(settings, report)
    except MesaError as error:
        logging.getLogger("mesafs").log(logging.ERROR, "the daemon ends: %s", error)
        report.failed(error)
        status = EXIT_STATUS[error.kind]
    sys.exit(status)


def harden() -> None:
    """No core dump, no reading of our memory or environment by others of the same user."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _reap(pid: int, seconds: float = 5.0) -> int:
    """The exit status of a child that is ending; one that does not end is killed."""
    pidfd = os.pidfd_open(pid)
    try:
        if not select.select([pidfd], [], [], seconds)[0]:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _first_line(fd: int, deadline: float, clock: Clock) -> bytes | None:
    """What arrives up to a newline or the end of the child; None when the time is over."""
    data = b""
    while b"\n" not in data:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - clock.monotonic()))
        if not ready:
            return None
        piece = os.read(fd, 65536)
        if not piece:
            break
        data += piece
    return data
