"""A running server hands out the script, and the script installs from that server."""

from __future__ import annotations

import http.client
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mesafs.testing.server import RunningServer

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


def test_the_guide_s_command_installs(server: RunningServer, machine) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"curl -fsSL {server.url}/install.sh | sh -s -- --yes"],
        env=machine.env(),
        cwd=machine.root,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout
    assert tomllib.loads(machine.config.read_text()) == {"api-url": server.url}
    version = subprocess.run([machine.command, "version"], capture_output=True, check=True)
    assert version.stdout


@pytest.mark.parametrize("host", ["$(id)", "a b", 'x"y', "a;b"])
def test_a_strange_host_header_gets_no_script(server: RunningServer, host: str) -> None:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.putrequest("GET", "/install.sh", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()

    answer = connection.getresponse()
    body = answer.read()
    connection.close()

    assert answer.status == 400
    assert b"#!/bin/sh" not in body


def test_a_public_url_is_what_the_script_names(tmp_path: Path) -> None:
    arguments = ("--public-url", "https://mesa.example/")
    with RunningServer.start(tmp_path / "data", arguments=arguments) as server:
        parts = urlsplit(server.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("GET", "/install.sh")
        body = connection.getresponse().read().decode()
        connection.close()

    assert "server=https://mesa.example\n" in body
    assert server.url not in body
