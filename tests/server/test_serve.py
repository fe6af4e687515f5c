"""``mesa serve`` as a process: first start, restart, refusals, and an end that loses nothing."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mesafs.testing.server import RunningServer, ServerDidNotStart
from support.polling import poll
from support.rest import Rest

pytestmark = pytest.mark.system


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``mesa serve`` to an end that is expected soon."""
    return subprocess.run(
        [sys.executable, "-m", "mesafs.cli.main", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


def test_the_first_start_makes_an_organisation_and_an_admin_key(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", org="acme") as server:
        with Rest(server.api_url, "acme", server.admin_key) as rest:
            who = rest.get("/whoami", expect=200).json()

        assert who["org"]["slug"] == "acme"
        assert who["scopes"] == ["read", "write", "admin"]
        key_file = server.data_dir / "admin.key"
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        assert stat.S_IMODE((server.data_dir / "server.secret").stat().st_mode) == 0o600


def test_the_admin_key_is_printed_once(tmp_path: Path) -> None:
    arguments = ["--port", "0", "--data-dir", str(tmp_path / "data")]
    printed = [_first_lines(arguments) for _ in range(2)]

    assert "mesa_live_" in printed[0]
    assert "mesa_live_" not in printed[1]


def _first_lines(arguments: list[str]) -> str:
    with subprocess.Popen(
        [sys.executable, "-m", "mesafs.cli.main", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line)["event"] == "Application startup complete.":
                break
        process.terminate()
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        return output.decode()


def test_a_restart_keeps_keys_and_repositories(tmp_path: Path) -> None:
    server = RunningServer.start(tmp_path / "data")
    with Rest(server.api_url, server.org, server.admin_key) as rest:
        rest.post(f"/{server.org}/repos", {"name": "app"}, expect=201)
    assert server.stop() == 0

    with server.restart() as again, Rest(again.api_url, again.org, again.admin_key) as rest:
        assert again.url == server.url
        assert rest.get(f"/{again.org}/app", expect=200).json()["name"] == "app"


def test_a_second_server_on_the_same_folder_is_refused(server: RunningServer) -> None:
    result = serve("--port", "0", "--data-dir", str(server.data_dir))

    assert result.returncode == 1
    assert f"another server is running on the data folder {server.data_dir}" in result.stderr
    assert f"process {server.process.pid}" in result.stderr
    assert "--data-dir" in result.stderr


def test_a_port_in_use_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = serve("--port", str(port), "--data-dir", str(tmp_path / "data"))

    assert result.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in result.stderr
    assert "--port" in result.stderr
    assert not (tmp_path / "data" / "catalogue.sqlite").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--org", "Bad_Org"], "cannot be the name of an organisation"),
        (["--org", "v1"], "cannot be the name of an organisation"),
        (["--host", "no.such.host.invalid"], "is not an address of this machine"),
        (["--tls-cert", "/nonexistent"], "--tls-cert and --tls-key go together"),
        (["--tls-cert", "/none", "--tls-key", "/none"], "cannot be used"),
        (["--public-url", "ftp://x"], "is not the URL of a server"),
        (["--port", "99999"], "--port must be from 0 to 65535"),
    ],
)
def test_a_wrong_argument_is_explained(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    result = serve("--port", "0", "--data-dir", str(tmp_path / "data"), *arguments)

    assert result.returncode == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_another_organisation_on_a_used_folder_is_refused(tmp_path: Path) -> None:
    server = RunningServer.start(tmp_path / "data", org="acme")
    server.stop()

    result = serve("--port", "0", "--data-dir", str(server.data_dir), "--org", "other")

    assert result.returncode == 2
    assert "belongs to the organisation 'acme', not 'other'" in result.stderr


def test_a_data_folder_without_its_secret_is_not_started_with_another(tmp_path: Path) -> None:
    server = RunningServer.start(tmp_path / "data")
    server.stop()
    (server.data_dir / "server.secret").unlink()

    result = serve("--port", "0", "--data-dir", str(server.data_dir))

    assert result.returncode == 70
    assert "restore the file" in result.stderr


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    server = RunningServer.start(tmp_path / "data")
    server.stop()
    (server.data_dir / "server.secret").chmod(0o644)

    with pytest.raises(ServerDidNotStart, match="chmod 600"):
        server.restart()


def test_the_database_holds_nothing_that_could_sign(server: RunningServer) -> None:
    from mesafs.auth.api_keys import signing_secret

    stored = b"".join(
        path.read_bytes() for path in sorted(server.data_dir.glob("catalogue.sqlite*"))
    )

    assert server.admin_key.encode() not in stored
    assert signing_secret(server.admin_key).encode() not in stored
    assert (server.data_dir / "server.secret").read_bytes().strip() not in stored


def test_sigterm_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    server = RunningServer.start(tmp_path / "data")
    acknowledged: list[str] = []
    refused: list[int] = []

    def write(worker: int) -> None:
        with Rest(server.api_url, server.org, server.admin_key) as rest:
            for number in range(10_000):
                name = f"r-{worker}-{number}"
                try:
                    answer = rest.post(f"/{server.org}/repos", {"name": name})
                except OSError:
                    return
                if answer.status != 201:
                    refused.append(answer.status)
                    return
                acknowledged.append(name)

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for writer in writers:
        writer.start()
    poll(lambda: len(acknowledged) > 20, what="20 repositories are made")
    status = server.stop()
    for writer in writers:
        writer.join()

    assert status == 0
    assert set(refused) <= {500}
    database = sqlite3.connect(server.data_dir / "catalogue.sqlite")
    kept = {name for (name,) in database.execute("SELECT name FROM repositories")}
    database.close()
    assert set(acknowledged) <= kept


@pytest.mark.parametrize("nth", [3, 7, 12])
def test_a_kill_at_a_commit_loses_nothing_that_was_acknowledged(tmp_path: Path, nth: int) -> None:
    first = RunningServer.start(tmp_path / "data")
    first.stop()
    server = first.restart(faults=f"catalogue.commit:{nth}:kill")
    acknowledged = []
    with Rest(server.api_url, server.org, server.admin_key) as rest:
        for number in range(100):
            try:
                answer = rest.post(f"/{server.org}/repos", {"name": f"r-{number}"})
            except OSError:
                break
            assert answer.status == 201
            acknowledged.append(f"r-{number}")
    assert server.process.wait(10) == -9

    with server.restart() as again, Rest(again.api_url, again.org, again.admin_key) as rest:
        page = rest.get(f"/{again.org}/repos?limit=100", expect=200).json()

    assert [repo["name"] for repo in page["repos"]] == acknowledged
    assert len(acknowledged) < 100


def test_health_needs_no_credential_and_names_nothing(server: RunningServer) -> None:
    with Rest(server.url, server.org, None) as rest:
        for path in ("/healthz", "/readyz", "/metrics"):
            answer = rest.get(path, expect=200)
            assert server.org not in answer.body.decode()
            assert "repo-" not in answer.body.decode()


def test_metrics_count_requests_and_bytes_by_operation(fresh_server: RunningServer) -> None:
    with Rest(fresh_server.api_url, fresh_server.org, fresh_server.admin_key) as rest:
        for _ in range(3):
            answer = rest.get("/whoami", expect=200)
        text = rest.send("GET", "/metrics").body.decode()

    assert 'mesa_requests_total{operation="whoami",status="2xx"} 3' in text
    sent = next(
        int(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith('mesa_sent_bytes_total{operation="whoami"}')
    )
    assert sent > 3 * len(answer.body)


def test_logs_are_json_lines_with_request_ids_and_no_secrets(fresh_server: RunningServer) -> None:
    with Rest(fresh_server.api_url, fresh_server.org, fresh_server.admin_key) as rest:
        made = rest.key(name="secret-bearer")
        rest.get(f"/whoami?key={made['key']}", expect=400)
        rest.get("/whoami", expect=200, **{"X-Request-Id": "abc-123"})
        with rest.as_(made["key"][:-1] + "x") as other:
            other.get("/whoami", expect=401)
    fresh_server.stop()

    text = fresh_server.log_path.read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert all(line["request_id"] for line in requests)
    assert "abc-123" in {line["request_id"] for line in requests}
    for secret in (made["key"], made["key"][-43:-1], fresh_server.admin_key):
        assert secret not in text
    assert lines[-1]["event"] == "stopped"
