"""One mounted repository, a writer in it, and a daemon that is killed round after round."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import support.mount_writer
from mesafs.base.errors import MesaError
from mesafs.mount.daemonize import DaemonFailed
from mesafs.mount.settings import MountSettings
from mesafs.testing.mount import RunningMount, clear
from mesafs.testing.server import RunningServer
from mesafs.testing.sync_client import SyncClient
from support.plain_git import git, write_tree
from support.polling import poll
from support.tree_model import Tree, difference, read_tree, replay

_WRITER = str(Path(support.mount_writer.__file__))
_WRITER_SECONDS = 60.0
REPOSITORY = "work"


@dataclass
class Tally:
    """What a run did, for the line that is told at its end."""

    rounds: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    in_doubt: int = 0

    def __str__(self) -> str:
        steps = ", ".join(f"{step} {count}" for step, count in sorted(self.struck.items()))
        return (
            f"{self.rounds} rounds, {self.calls} calls, {self.in_doubt} in doubt; struck: {steps}"
        )


class Scene:
    """A repository on a server, a mount of it, and the trees that may be in it now."""

    def __init__(self, server: RunningServer, folder: Path, *, name: str, tally: Tally) -> None:
        self.server = server
        self.name = name
        self.tally = tally
        self._scratch = folder
        with SyncClient(server.url, server.admin_key) as client:
            self.repository = client.create_repository(server.org, name)
        self.settings = MountSettings(
            api_url=server.api_url,
            credential=server.admin_key,
            organisation=server.org,
            mount_point=str(folder / "mnt"),
            state=str(folder / "state"),
            runtime=str(folder / "run"),
            log_file=str(folder / "logs/mount.log"),
            uid=os.getuid(),
            gid=os.getgid(),
            repositories=[[name, None]],
        )
        #: What the folder may contain: one tree, or two while a call is in doubt.
        self.admissible: list[Tree] = [{}]

    def round(
        self,
        seed: str,
        *,
        faults: str | None = None,
        kill_after_seconds: float | None = None,
        busy: bool = False,
    ) -> None:
        """Mount, compare, write under ``faults``, kill. ``busy`` publishes while the writer writes."""
        self.tally.rounds += 1
        random = Random(seed)
        evidence = self._scratch / f"round-{self.tally.rounds}"
        evidence.mkdir()
        log, fault_log = evidence / "calls", evidence / "faults"
        for journal in Path(self.settings.state).glob("*/*/*/journal.*"):
            shutil.copy(journal, evidence)
        mount = self.mounted(faults=faults, fault_log=fault_log)
        timer = threading.Timer(kill_after_seconds or 0, os.kill, (mount.pid, signal.SIGKILL))
        if kill_after_seconds is not None:
            timer.start()
        try:
            status = self._write(mount, log, seed, random.randrange(40, 160), busy=busy)
            if status != 0:
                poll(mount.is_dead, 5, what=f"dead, although the writer's calls failed: {status}")
            if not mount.is_dead() and random.random() < 0.8:
                with suppress(MesaError, OSError):
                    mount.call("sync", timeout=20)
        finally:
            timer.cancel()
            timer.join() if kill_after_seconds is not None else None
            killed_before = mount.is_dead()
            ended = mount.kill()
        assert ended == -signal.SIGKILL, f"the daemon ended by itself, status {ended}"
        self._count(fault_log, by_timer=killed_before and kill_after_seconds is not None)
        self._expect(log.read_bytes())

    def round_of_server(self, server: RunningServer, seed: str, step: str) -> None:
        """Write while the server dies at ``step``; once it is back, everything is published."""
        self.tally.rounds += 1
        self.server = server
        log = self._scratch / f"calls-{self.tally.rounds}"
        mount = self.mounted()
        try:
            status = self._write(mount, log, seed, 60, busy=True)
            with suppress(MesaError, OSError):
                mount.call("sync", timeout=2)
            if server.process.poll() == -signal.SIGKILL:
                self.tally.struck[step] += 1
            server.kill()
            self.server = server.restart()
            assert status == 0, f"the writer was refused, status {status}"
            self._expect(log.read_bytes())
            poll(lambda: _is_synced(mount), 30, what="published after the server came back")
            self.compare(mount)
        finally:
            ended = mount.kill()
        assert ended == -signal.SIGKILL, f"the daemon ended by itself, status {ended}"
        self.check_published()

    def mounted(self, *, faults: str | None = None, fault_log: Path | None = None) -> RunningMount:
        """A mount whose content has been compared; one that is killed meanwhile is mounted again."""
        if faults is not None:
            with suppress(DaemonFailed):
                mount = RunningMount.start(self.settings, faults=faults, fault_log=fault_log)
                try:
                    self.compare(mount)
                except OSError:
                    assert mount.kill() == -signal.SIGKILL
                    assert self._fired(fault_log), "a call failed, and nothing was killed"
                else:
                    return mount
        mount = RunningMount.start(self.settings)
        try:
            self.compare(mount)
        except BaseException:
            mount.kill()
            raise
        return mount

    def compare(self, mount: RunningMount) -> None:
        """What is there is what was acknowledged; settles the call that was in doubt."""
        found = read_tree(mount.folder(self.name))
        for tree in self.admissible:
            if tree == found:
                self.admissible = [tree]
                return
        wrong = [difference(tree, found) for tree in self.admissible]
        raise AssertionError(f"lost or invented: {min(wrong, key=len)}; or: {max(wrong, key=len)}")

    def check_published(self) -> None:
        """After a sync: git's tree of the folder, the mount's, and the server's are one."""
        mount = self.mounted()
        try:
            poll(lambda: mount.call("sync") and mount.unpublished() == 0, 20, what="published")
            (status,) = mount.call("status")["repositories"]
            seen = write_tree(mount.folder(self.name))
        finally:
            assert mount.kill() == -signal.SIGKILL
        with SyncClient(self.server.url, self.server.admin_key) as client:
            state = client.state(self.server.org, self.name)
        assert seen == status["tree"] == state.tree.hex()
        assert status["commit"] == state.commit.hex()

    def check_repository(self) -> None:
        """The server's repository is whole by git's own judgement."""
        git("fsck", "--strict", cwd=repository_folder(self.server, self.repository))

    def close(self) -> None:
        clear(self.settings)

    def _write(self, mount: RunningMount, log: Path, seed: str, steps: int, *, busy: bool) -> int:
        folder = mount.folder(self.name)
        command = [sys.executable, "-I", "-S", _WRITER, str(folder), str(log), seed, str(steps)]
        with subprocess.Popen(command) as writer:
            try:
                while busy and writer.poll() is None:
                    try:
                        mount.call("sync", timeout=20)
                    except (MesaError, OSError):
                        break
                return writer.wait(_WRITER_SECONDS)
            except subprocess.TimeoutExpired:
                os.kill(mount.pid, signal.SIGKILL)  # so that whoever hangs in the mount is let go
                writer.wait(_WRITER_SECONDS)
                raise AssertionError("a call in the mount hung") from None

    def _expect(self, log: bytes) -> None:
        (tree,) = self.admissible
        self.admissible = replay(tree, log)
        self.tally.calls += log.count(b"\n") // 2
        self.tally.in_doubt += len(self.admissible) == 2

    def _count(self, fault_log: Path, *, by_timer: bool) -> None:
        fired = self._fired(fault_log)
        self.tally.struck.update(fired)
        if by_timer and not fired:
            self.tally.struck["at random"] += 1

    @staticmethod
    def _fired(fault_log: Path | None) -> list[str]:
        if fault_log is None or not fault_log.exists():
            return []
        lines = [line.split() for line in fault_log.read_text().splitlines()]
        return [line[1] for line in lines if line[0] == "fired"]


def _is_synced(mount: RunningMount) -> bool:
    try:
        mount.call("sync", timeout=10)
    except (MesaError, OSError):
        return False
    return mount.unpublished() == 0


def repository_folder(server: RunningServer, repository: str) -> Path:
    return server.data_dir / "repositories" / f"{repository}.git"
