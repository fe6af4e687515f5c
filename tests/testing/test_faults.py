"""Faults strike where and when the plan says, in this process and in a child."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesafs.testing.faults import Fault, FaultyFiles, Plan, files, install


def test_only_the_named_arrival_at_a_step_fails(tmp_path: Path) -> None:
    disk = FaultyFiles("state.write:2:error")

    disk.write("state.write", tmp_path / "a", b"one")
    disk.write("other.write", tmp_path / "a", b"two")
    with pytest.raises(OSError, match=r"state\.write") as failure:
        disk.write("state.write", tmp_path / "a", b"three")
    disk.write("state.write", tmp_path / "b", b"four")

    assert failure.value.errno == errno.EIO
    assert (tmp_path / "a").read_bytes() == b"two"
    assert disk.plan.fired == ["state.write:2:error"]
    assert disk.plan.reached == {"state.write": 3, "other.write": 1}


def test_a_persistent_fault_goes_on(tmp_path: Path) -> None:
    disk = FaultyFiles("w:2+:enospc")

    disk.write("w", tmp_path / "a", b"")
    for _ in range(3):
        with pytest.raises(OSError, match="w") as failure:
            disk.write("w", tmp_path / "a", b"")
        assert failure.value.errno == errno.ENOSPC


def test_any_step_counts_all_steps_together() -> None:
    disk = FaultyFiles("*:3:error")

    disk.reached("a")
    disk.reached("b")
    with pytest.raises(OSError, match="c"):
        disk.reached("c")


def test_a_short_write_leaves_half_of_the_bytes(tmp_path: Path) -> None:
    disk = FaultyFiles("journal.append:1:short")
    fd = os.open(tmp_path / "journal", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    with pytest.raises(OSError, match="No space left"):
        disk.append("journal.append", fd, b"12345678")
    disk.append("journal.append", fd, b"9")
    os.close(fd)

    assert (tmp_path / "journal").read_bytes() == b"12349"


def test_a_delay_carries_the_step_out(tmp_path: Path) -> None:
    FaultyFiles("w:1:delay=1").write("w", tmp_path / "a", b"late")

    assert (tmp_path / "a").read_bytes() == b"late"


@pytest.mark.parametrize(
    "text", ["", "step", "step:0:kill", "step:one:kill", "step:1:burn", "step:1:delay", ":1:kill"]
)
def test_a_fault_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        Fault.parse(text)


def test_without_settings_nothing_is_hooked() -> None:
    assert install({}) is None
    assert type(files({})).__name__ == "Files"


def test_a_hook_refuses_a_fault_that_needs_the_bytes() -> None:
    with pytest.raises(ValueError, match="files"):
        install({"MESA_FAULT": "a:1:torn"})


def test_a_log_alone_records_which_steps_there_are(tmp_path: Path) -> None:
    log = tmp_path / "log"
    hook = install({"MESA_FAULT_LOG": str(log)})
    assert hook is not None

    for step in ("a", "b", "a"):
        hook(step)

    assert log.read_text().splitlines() == ["reached a", "reached b"]


_CHILD = """
import os, sys
from pathlib import Path
from mesafs.testing.faults import files
disk = files(os.environ)
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
for number in range(5):
    disk.append("journal.append", fd, b"%d-record|" % number)
"""


@pytest.mark.system
@pytest.mark.parametrize(
    ("action", "left"),
    [("kill", b"0-record|1-record|"), ("torn", b"0-record|1-record|2-re")],
)
def test_a_child_dies_at_the_named_step(tmp_path: Path, action: str, left: bytes) -> None:
    log, journal = tmp_path / "log", tmp_path / "journal"
    env = {"MESA_FAULT": f"journal.append:3:{action}", "MESA_FAULT_LOG": str(log)}

    child = subprocess.run([sys.executable, "-c", _CHILD, journal], env=env, check=False)

    assert child.returncode == -signal.SIGKILL
    assert journal.read_bytes() == left
    assert f"fired journal.append 3 {action}" in log.read_text()


def test_several_faults_hold_in_one_plan() -> None:
    plan = Plan.parse("a:1:error,b:1:enospc")

    with pytest.raises(OSError, match="a"):
        plan.hook("a")
    with pytest.raises(OSError, match="b"):
        plan.hook("b")
