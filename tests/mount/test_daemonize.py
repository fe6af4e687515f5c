from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import support.daemon_entries
from mesafs.base.errors import Unavailable
from mesafs.mount import daemonize
from mesafs.mount.config import child_environment

pytestmark = [pytest.mark.system]

SECRET = "mesa_live_" + "0" * 26 + "_" + "s" * 43
# -I ignores PYTHONPATH, so the entry is reached by a path of its own, as an installed one would be.
TESTS = str(Path(support.daemon_entries.__file__).parents[1])


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    program = daemonize._program()
    monkeypatch.setattr(
        daemonize, "_program", lambda: f"import sys; sys.path.append({TESTS!r}); {program}"
    )

    def launch(entry: str, timeout: float = 20.0) -> daemonize.Started:
        return daemonize.launch(
            f"support.daemon_entries:{entry}",
            {"credential": SECRET},
            environ=child_environment({"PATH": os.defpath, "MESA_API_KEY": SECRET, "LANG": "C"}),
            log_file=tmp_path / "log",
            timeout=timeout,
        )

    return launch


@contextmanager
def ended(started: daemonize.Started) -> Iterator[daemonize.Started]:
    try:
        yield started
    finally:
        os.kill(started.pid, signal.SIGTERM)
        assert os.waitpid(started.pid, 0) == (started.pid, 0)


def test_a_daemon_is_ready_when_the_parent_returns(launch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with ended(launch("ready")) as started:
        assert started.answer["session"] == started.pid
        assert started.answer["cwd"] == "/"
        assert started.answer["credential"] == SECRET
        assert started.answer["descriptors"] <= 5  # three standard ones and the listing itself
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_the_credential_is_in_no_argument_and_no_environment(launch) -> None:  # type: ignore[no-untyped-def]
    with ended(launch("ready")) as started:
        proc = Path(f"/proc/{started.pid}")
        command, environ = (proc / "cmdline").read_bytes(), (proc / "environ").read_bytes()
        limits = (proc / "limits").read_text()

    assert SECRET.encode() not in command + environ
    assert b"MESA_API_KEY" not in environ
    assert "Max core file size        0 " in limits


@pytest.mark.needs("root")
def test_a_daemon_cannot_be_looked_into(launch) -> None:  # type: ignore[no-untyped-def]
    with ended(launch("ready")) as started:
        # Not dumpable: what the kernel shows of it belongs to root, whoever runs it.
        owner = Path(f"/proc/{started.pid}/environ").stat().st_uid

    assert owner == 0


def test_an_error_before_ready_is_the_parents_error(launch) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(daemonize.DaemonFailed, match="the key was revoked") as caught:
        launch("denied")

    assert caught.value.hint == "make another"
    assert caught.value.exit_status == 4


@pytest.mark.parametrize(("entry", "how"), [("crash", "status 1"), ("killed", "signal 9")])
def test_a_daemon_that_dies_is_reported_with_its_log(  # type: ignore[no-untyped-def]
    launch, tmp_path: Path, entry: str, how: str
) -> None:
    with pytest.raises(daemonize.DaemonFailed, match=how) as caught:
        launch(entry)

    assert str(tmp_path / "log") in str(caught.value.hint)
    assert caught.value.exit_status == 70
    if entry == "crash":
        assert "a bug before it was ready" in (tmp_path / "log").read_text()


def test_a_daemon_that_never_gets_ready_is_ended(launch) -> None:  # type: ignore[no-untyped-def]
    before = _children()

    with pytest.raises(Unavailable, match=r"not ready after 0\.3 seconds"):
        launch("never", timeout=0.3)

    assert _children() <= before


def _children() -> set[str]:
    """Process ids of this process's children; other tests may have servers among them."""
    threads = Path("/proc/self/task").iterdir()
    return {pid for thread in threads for pid in (thread / "children").read_text().split()}
