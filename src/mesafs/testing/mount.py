"""A real mount daemon in a process of its own that can be killed, also at a named step.

Started as ``mesa mount --daemonize`` starts one, without the command line; the entry installs the
faults that ``MESA_FAULT`` asks for. Root only: it mounts by mount(2).
"""

from __future__ import annotations

import dataclasses
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mesafs.mount import control
from mesafs.mount.control import ControlClient, Instance
from mesafs.mount.daemon import serve
from mesafs.mount.daemonize import DaemonFailed, Report, launch
from mesafs.mount.fuse import mounting
from mesafs.mount.settings import MountSettings
from mesafs.mount.state_folder import private_folder
from mesafs.testing.faults import install

_ENTRY = "mesafs.testing.mount:main"


def main(settings: dict[str, Any], report: Report) -> int:
    """Entry of the daemon process: the real one, with faults at its durable steps."""
    hook = install(os.environ)  # noqa: TID251 - faults are the test's only word to this process
    return serve(MountSettings(**settings), report, hook=hook)


@dataclass
class RunningMount:
    """A daemon that has said it is ready. ``settings`` serve again after its death."""

    settings: MountSettings
    pid: int
    instance: Instance

    @classmethod
    def start(
        cls, settings: MountSettings, *, faults: str | None = None, fault_log: Path | None = None
    ) -> Self:
        """Clear what a killed one left, and mount. A daemon that dies on the way raises DaemonFailed."""
        target = Path(settings.mount_point)
        target.mkdir(parents=True, exist_ok=True)
        clear(settings)
        log_file = Path(settings.log_file or f"{settings.state}/mount.log")
        for folder in (Path(settings.state), Path(settings.runtime), log_file.parent):
            private_folder(folder)
        environ = {"PATH": os.defpath, "HOME": "/nonexistent"}
        if faults is not None:
            environ["MESA_FAULT"] = faults
        if fault_log is not None:
            environ["MESA_FAULT_LOG"] = os.fspath(fault_log)
        started = launch(_ENTRY, dataclasses.asdict(settings), environ=environ, log_file=log_file)
        try:
            return cls(settings, started.pid, control.find(Path(settings.runtime), target))
        except control.NoDaemon:
            os.waitpid(started.pid, 0)
            raise DaemonFailed("it died once ready", hint=None, exit_status=70) from None

    def folder(self, repository: str) -> Path:
        """Where a repository of the organisation is seen."""
        return Path(self.settings.mount_point, self.settings.organisation, repository)

    def call(self, verb: str, *, timeout: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """A verb of the control socket: status, sync, unmount."""
        client = ControlClient(Path(self.settings.runtime), self.instance)
        return client.call(verb, timeout=timeout, **arguments)

    def unpublished(self) -> int:
        """How much the server may lack, over all repositories."""
        return sum(int(one["unpublished"]) for one in self.call("status")["repositories"])

    def is_dead(self) -> bool:
        """Whether the process has ended by itself; ``wait`` still tells how."""
        ended: object = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None

    def wait(self) -> int:
        """Wait until the process is dead; its exit status, negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> int:
        """End it as a crash would, unless it is dead already; its exit status."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()


def clear(settings: MountSettings) -> None:
    """Take away the mount of a daemon that is dead."""
    target = Path(settings.mount_point)
    if mounting.is_ours(target):
        mounting.unmount(target, lazy=True)
    if Path(settings.runtime).is_dir():
        control.clear_dead(Path(settings.runtime))
