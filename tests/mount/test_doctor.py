from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mesafs.base.clock import SystemClock
from mesafs.base.errors import Invalid
from mesafs.mount import doctor
from mesafs.mount.config import Places, places
from mesafs.mount.doctor import Verdict
from mesafs.mount.logging import OncePerWhile, Redacting
from mesafs.sdk.config import ClientConfig, Flags


@pytest.mark.parametrize(
    ("release", "verdict", "words"),
    [
        ("4.19.0", Verdict.FAIL, "older"),
        ("6.1.0-13-amd64", Verdict.OK, "no passthrough"),
        ("6.18.44-x", Verdict.OK, "passthrough"),
    ],
)
def test_the_kernels_release_says_what_a_mount_can_do(
    release: str, verdict: Verdict, words: str
) -> None:
    finding = doctor.kernel(release)

    assert finding.verdict is verdict
    assert words in finding.detail


def test_each_lack_comes_with_its_remedy(tmp_path: Path) -> None:
    findings = [doctor.python((3, 9, 2)), doctor.device(tmp_path / "fuse")]

    assert [finding.verdict for finding in findings] == [Verdict.FAIL] * 2
    assert all(finding.remedy for finding in findings)


def test_an_unsafe_state_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)

    finding = doctor.state(Places(tmp_path / "state", tmp_path / "run", tmp_path / "logs"))

    assert finding.verdict is Verdict.FAIL
    assert "chmod 700" in str(finding.remedy)


def test_a_broken_configuration_is_a_finding_beside_the_others(tmp_path: Path) -> None:
    def load() -> ClientConfig:
        raise Invalid("the file is not TOML", hint="look at line 3")

    findings = doctor.examine(load, places({"HOME": str(tmp_path)}))

    assert findings[-1].check == "configuration"
    assert findings[-1].remedy == "look at line 3"
    assert {"python", "device", "kernel", "state"} <= {finding.check for finding in findings}


def test_a_server_that_says_nothing_is_given_up_within_a_second(tmp_path: Path) -> None:
    clock = SystemClock()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        config = _config(tmp_path, silent.getsockname()[1])
        begun = clock.monotonic()

        findings = doctor.server(config)

        assert clock.monotonic() - begun < 1.0
    assert findings[0].verdict is Verdict.FAIL
    assert findings[0].check == "server"


@pytest.mark.parametrize(
    ("status", "verdict"), [(200, Verdict.OK), (401, Verdict.FAIL), (403, Verdict.FAIL)]
)
def test_the_credential_is_tried_on_the_server(
    tmp_path: Path, status: int, verdict: Verdict
) -> None:
    with _answering(status) as port:
        findings = doctor.server(_config(tmp_path, port))

    assert [finding.check for finding in findings] == ["server", "credential"]
    assert findings[0].verdict is Verdict.OK
    assert findings[1].verdict is verdict


def test_keys_and_tokens_do_not_reach_the_log() -> None:
    key = "mesa_live_" + "0" * 26 + "_" + "a-b_" * 10
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln-bmF0_dXJl"
    record = logging.LogRecord(
        "x", 20, "", 1, "sent %s and Bearer abc.def", (f"{key} {token}",), None
    )

    text = Redacting("%(message)s").format(record)

    assert text == "sent [credential] [credential] and Bearer [credential]"


def test_a_warning_repeated_is_one_fact() -> None:
    once = OncePerWhile(SystemClock())
    records = [logging.LogRecord("x", 30, "", 1, text, (), None) for text in ("a", "a", "b")]
    error = logging.LogRecord("x", 40, "", 1, "a", (), None)

    assert [once.filter(record) for record in [*records, error, error]] == [
        True, False, True, True, True,
    ]  # fmt: skip


def _config(home: Path, port: int) -> ClientConfig:
    environ = {
        "HOME": str(home),
        "MESA_NO_CONFIG_FILE": "1",
        "MESA_API_URL": f"http://127.0.0.1:{port}",
        "MESA_API_KEY": "mesa_live_" + "0" * 26 + "_" + "s" * 43,
    }
    return ClientConfig.load(Flags(), environ)


@contextmanager
def _answering(status: int) -> Iterator[int]:
    who = {
        "org": {"id": "org_1", "slug": "acme", "name": "Acme"},
        "key_id": "key_1",
        "key_name": None,
        "scopes": ["read"],
    }
    refusal = {"error": {"code": "UNAUTHENTICATED" if status == 401 else "X", "message": "no"}}
    body = json.dumps(who if status == 200 else refusal).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
