from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesafs.base.clock import SystemClock
from mesafs.base.errors import Conflict, Corrupt, Denied, Invalid, NotFound
from mesafs.mount import control
from mesafs.mount.control import ControlClient, ControlServer, Instance
from support.polling import poll

LOG = logging.getLogger("test")


def _echo(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"echo": arguments}


def _deny(_arguments: dict[str, Any]) -> dict[str, Any]:
    raise Denied("not with this key", hint="ask for write")


def _break(_arguments: dict[str, Any]) -> dict[str, Any]:
    return {"x": 1 // 0}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    instance = Instance.new(Path("/mnt/one"), clock=SystemClock())
    verbs = {"echo": _echo, "deny": _deny, "break": _break}
    server = ControlServer(tmp_path, instance, verbs, log=LOG)
    server.start()
    yield server
    server.close()


@pytest.fixture
def client(tmp_path: Path, server: ControlServer) -> ControlClient:
    return ControlClient(tmp_path, server.instance)


def test_a_request_gets_its_answer(client: ControlClient) -> None:
    assert client.call("echo", path="/a b", deep=True) == {"echo": {"path": "/a b", "deep": True}}


def test_an_error_arrives_with_its_kind_and_remedy(client: ControlClient) -> None:
    with pytest.raises(Denied, match="not with this key") as caught:
        client.call("deny")

    assert caught.value.hint == "ask for write"


def test_a_bug_in_a_verb_is_an_error_and_the_daemon_goes_on(
    client: ControlClient, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Corrupt, match="failed inside the daemon"):
        client.call("break")

    assert client.call("ping") == {}
    assert "ZeroDivisionError" in caplog.text


def test_an_unknown_verb_is_refused(client: ControlClient) -> None:
    with pytest.raises(NotFound, match="does not know"):
        client.call("explode")


@pytest.mark.parametrize(
    "raw",
    [b"\n", b"{}\n", b"[]\n", b"7\n", b'{"verb": 7}\n', b'{"verb":"echo","arguments":[]}\n',
     b"\xff\xfe\n", b"[" * 5000 + b"\n"],
)  # fmt: skip
def test_rubbish_is_refused_in_words(tmp_path: Path, server: ControlServer, raw: bytes) -> None:
    with _raw(tmp_path, server) as connection:
        connection.sendall(raw)

        reply = json.loads(connection.makefile("rb").readline())

    assert reply["ok"] is False


def test_a_message_without_end_is_cut_and_others_are_served(
    tmp_path: Path, server: ControlServer, client: ControlClient
) -> None:
    with (
        _raw(tmp_path, server) as connection,
        pytest.raises((BrokenPipeError, ConnectionResetError)),
    ):
        connection.sendall(b"x" * (100 << 20))

    assert client.call("ping") == {}


def test_idle_connections_are_cut_and_do_not_pile_up(
    tmp_path: Path, server: ControlServer, client: ControlClient
) -> None:
    idle = [_raw(tmp_path, server) for _ in range(60)]
    try:
        poll(lambda: _answers(client), 5, what="served again after idle connections were cut")
        assert sum(thread.name.startswith("Thread") for thread in threading.enumerate()) < 50
    finally:
        for connection in idle:
            connection.close()


def _answers(client: ControlClient) -> bool:
    try:
        return client.call("ping", timeout=1) == {}
    except (control.NoDaemon, control.NotResponding):
        return False


def test_the_socket_and_the_instance_file_are_private(
    tmp_path: Path, server: ControlServer
) -> None:
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}

    assert modes == {".sock": 0o600, ".json": 0o600}


@pytest.mark.needs("root")
def test_another_user_is_refused_even_with_an_open_socket_file(
    tmp_path: Path, server: ControlServer
) -> None:
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.close()
    ours.close()
    for path in (tmp_path, *list(tmp_path.parents)[:-2]):
        path.chmod(0o755)
    address = tmp_path / f"{server.instance.instance}.sock"
    address.chmod(0o666)
    program = (
        "import os, socket\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect({str(address)!r})\n"
        's.sendall(b\'{"verb": "ping"}\\n\'); print(s.recv(100))\n'
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )

    assert "instance" not in done.stdout


def test_a_long_runtime_folder_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    server = ControlServer(deep, Instance.new(Path("/m"), clock=SystemClock()), {}, log=LOG)
    server.start()
    try:
        assert ControlClient(deep, server.instance).call("ping") == {}
    finally:
        server.close()


def test_a_daemon_is_found_by_any_path_inside_its_mount(
    tmp_path: Path, server: ControlServer
) -> None:
    found = control.find(tmp_path, Path("/mnt/one/org/repo/file"))

    assert found == server.instance
    assert control.find(tmp_path) == server.instance
    with pytest.raises(control.NoDaemon, match="not in a running") as caught:
        control.find(tmp_path, Path("/mnt/onely"))
    assert "/mnt/one" in str(caught.value.hint)


def test_of_several_daemons_one_must_be_named(tmp_path: Path, server: ControlServer) -> None:
    other = ControlServer(
        tmp_path, Instance.new(Path("/mnt/two"), clock=SystemClock()), {}, log=LOG
    )
    other.start()
    try:
        with pytest.raises(Invalid, match="several"):
            control.find(tmp_path)
        assert control.find(tmp_path, default=Path("/mnt/two")) == other.instance
    finally:
        other.close()


def test_what_dead_daemons_left_is_removed_and_nothing_else(
    tmp_path: Path, server: ControlServer
) -> None:
    dead = replace(server.instance, instance="0" * 16, pid=1)
    (tmp_path / f"{dead.instance}.json").write_text(
        json.dumps({field: getattr(dead, field) for field in dead.__slots__})
    )
    (tmp_path / "mine.json").write_text("{}")
    (tmp_path / "text.json").write_text("pid 7")

    cleared = control.clear_dead(tmp_path)

    assert cleared == [dead]
    assert control.instances(tmp_path) == [server.instance]
    assert (tmp_path / "mine.json").exists()


def test_another_daemon_on_the_socket_is_not_believed(
    tmp_path: Path, server: ControlServer
) -> None:
    other = replace(server.instance, instance="f" * 16)
    os.link(tmp_path / f"{server.instance.instance}.sock", tmp_path / f"{other.instance}.sock")

    with pytest.raises(Conflict, match="another daemon"):
        ControlClient(tmp_path, other).call("ping")
    with pytest.raises(Conflict, match="another daemon"):
        ControlClient(tmp_path, other).signal(signal.SIGTERM)


def test_a_daemon_that_never_answers_is_not_responding(tmp_path: Path) -> None:
    instance = Instance.new(Path("/m"), clock=SystemClock())
    with socket.socket(socket.AF_UNIX) as listener:
        with control._address(tmp_path, instance.instance) as address:
            listener.bind(address)
        listener.listen(1)

        with pytest.raises(control.NotResponding, match="not responding") as caught:
            ControlClient(tmp_path, instance).call("status", timeout=0.1)

    assert "--force" in str(caught.value.hint)


def test_slow_verbs_do_not_delay_others(tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(_arguments: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        release.wait(10)
        return {}

    server = ControlServer(
        tmp_path, Instance.new(Path("/m"), clock=SystemClock()), {"slow": slow}, log=LOG
    )
    server.start()
    client = ControlClient(tmp_path, server.instance)
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(client.call, "slow")
        assert entered.wait(5)
        assert client.call("ping") == {}
        release.set()
        assert waiting.result(5) == {}
    server.close()


def _raw(runtime: Path, server: ControlServer) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    with control._address(runtime, server.instance.instance) as address:
        connection.connect(address)
    return connection
