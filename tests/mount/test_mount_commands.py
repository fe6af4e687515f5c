from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import support.daemon_entries
from mesafs.base.clock import SystemClock
from mesafs.cli.context import Context
from mesafs.cli.main import main
from mesafs.cli.output import Output
from mesafs.mount import daemonize
from mesafs.mount.fuse import mounting
from support.polling import poll

TESTS = str(Path(support.daemon_entries.__file__).parents[1])


@dataclass
class Shell:
    """Runs ``mesa`` in this process with an environment of its own."""

    home: Path

    def mesa(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        environ = {"HOME": str(self.home), "MESA_NO_CONFIG_FILE": "1"}
        status = main(arguments, Context(environ, Output(out, err), SystemClock()))
        return status, out.getvalue(), err.getvalue()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@dataclass(frozen=True)
class Daemon:
    pid: int
    mount_point: Path


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    program = daemonize._program()
    monkeypatch.setattr(
        daemonize, "_program", lambda: f"import sys; sys.path.append({TESTS!r}); {program}"
    )
    state = tmp_path / ".local/state/mesa"
    (state / "run").mkdir(mode=0o700, parents=True)
    (state / "logs").mkdir(mode=0o700)
    target = tmp_path / "mnt"
    target.mkdir()
    settings = {
        "mount_point": str(target),
        "runtime": str(state / "run"),
        "log_file": str(state / "logs/mnt.log"),
    }
    started = daemonize.launch(
        "support.daemon_entries:mounted",
        settings,
        environ={"PATH": os.defpath},
        log_file=state / "logs/mnt.log",
    )
    yield Daemon(started.pid, target)
    if mounting.is_ours(target):
        mounting.unmount(target, lazy=True)
    try:
        if os.waitpid(started.pid, os.WNOHANG)[0] == 0:
            os.kill(started.pid, signal.SIGKILL)
            os.waitpid(started.pid, 0)
    except ChildProcessError:
        pass


def test_without_a_mount_every_command_says_so(shell: Shell) -> None:
    status, said, complained = shell.mesa("status")
    assert (status, complained) == (0, "")
    foreign = "no daemon of this user answers for it"  # others may have theirs on this machine
    assert all(foreign in line or line == "no mesa mount is running" for line in said.splitlines())
    for command in ("sync", "unmount"):
        status, out, err = shell.mesa(command)
        assert (status, out) == (1, "")
        assert "no mesa mount is running" in err
        assert "mesa mount --daemonize" in err


@pytest.mark.system
@pytest.mark.needs("fuse", "root")
class TestARunningMount:
    def test_status_names_what_is_not_published(self, shell: Shell, daemon: Daemon) -> None:
        status, out, _ = shell.mesa("status", str(daemon.mount_point))
        _, data, _ = shell.mesa("status", str(daemon.mount_point / "org/repo"), "--json")

        assert status == 0
        assert f"{daemon.mount_point}: process {daemon.pid}, server http://here" in out
        assert "org/repo at main (zzzzzzzz), 2 unpublished" in out
        assert json.loads(data)["mounts"][0]["state"] == "running"

    def test_unmount_returns_when_the_mount_is_gone(self, shell: Shell, daemon: Daemon) -> None:
        assert (daemon.mount_point / "a").read_text() == "hello\n"

        status, out, err = shell.mesa("unmount", str(daemon.mount_point))

        assert (status, err) == (0, "")
        assert "unmounted" in out
        assert not mounting.is_ours(daemon.mount_point)
        assert os.waitpid(daemon.pid, 0) == (daemon.pid, 0)
        assert list((shell.home / ".local/state/mesa/run").iterdir()) == []

    def test_unmount_of_a_mount_in_use_says_what_to_do(self, shell: Shell, daemon: Daemon) -> None:
        with (daemon.mount_point / "a").open() as held:
            status, _, err = shell.mesa("unmount", str(daemon.mount_point))

            assert held.read() == "hello\n"
        assert status == 1
        assert "in use" in err
        assert "--force" in err

    def test_a_stopped_daemon_is_named_within_a_second_and_ended_by_force(
        self, shell: Shell, daemon: Daemon
    ) -> None:
        os.kill(daemon.pid, signal.SIGSTOP)
        clock = SystemClock()
        begun = clock.monotonic()

        status, out, _ = shell.mesa("status", str(daemon.mount_point))
        seconds = clock.monotonic() - begun
        doctor = shell.mesa("doctor")[1]
        forced, said, _ = shell.mesa("unmount", "--force", str(daemon.mount_point))

        assert status == 75
        assert "not responding" in out
        assert seconds < 1.0
        assert f"{daemon.mount_point} (process {daemon.pid}) is not responding" in doctor
        assert forced == 0
        assert "by force" in said
        assert not mounting.is_ours(daemon.mount_point)
        assert os.waitpid(daemon.pid, 0) == (daemon.pid, signal.SIGKILL)

    def test_what_a_killed_daemon_left_is_cleared(self, shell: Shell, daemon: Daemon) -> None:
        os.kill(daemon.pid, signal.SIGKILL)
        os.waitpid(daemon.pid, 0)

        listed = shell.mesa("status", "--json")[1]
        doctor = shell.mesa("doctor")[1]
        status, out, _ = shell.mesa("unmount", str(daemon.mount_point))

        mounts = {entry["mount_point"]: entry for entry in json.loads(listed)["mounts"]}
        assert "no daemon" in mounts[str(daemon.mount_point)]["state"]
        assert f"mesa unmount --force {daemon.mount_point}" in doctor
        assert status == 0
        assert "lost its daemon" in out
        assert mounting.find(daemon.mount_point) is None

    def test_sync_passes_on_where_it_was_asked(self, shell: Shell, daemon: Daemon) -> None:
        status, out, _ = shell.mesa("sync", str(daemon.mount_point / "org/repo"))

        assert status == 0
        assert "the server has everything" in out

    def test_logs_shows_the_last_lines(self, shell: Shell, daemon: Daemon) -> None:
        log = shell.home / ".local/state/mesa/logs/mnt.log"
        log.write_text("one\ntwo\nthree\n")

        poll(lambda: shell.mesa("logs", str(daemon.mount_point), "-n", "2")[1] == "two\nthree\n")
        assert shell.mesa("logs", "-n", "1")[1] == "three\n"
