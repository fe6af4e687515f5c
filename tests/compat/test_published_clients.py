"""Other people's clients, unmodified, against a real server: every method of both published SDKs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mesafs.testing.server import RunningServer
from support.published_surface import OPERATIONS, python_methods, typescript_methods

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PYTHON = ROOT / ".venv-compat/bin/python"
MODULES = HERE / "node_modules/@mesadev/sdk"

pytestmark = [pytest.mark.compat, pytest.mark.system]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("compat") / "data") as running:
        yield running


def report_of(command: Sequence[str | Path], server: RunningServer) -> dict[str, Any]:
    request = {"url": server.url, "key": server.admin_key, "org": server.org}
    done = subprocess.run(
        command,
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"},
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture(scope="module")
def python(server: RunningServer) -> dict[str, Any]:
    if not PYTHON.exists():
        pytest.skip("the published Python clients are not installed: run scripts/setup")
    return report_of([PYTHON, HERE / "python_client.py"], server)


@pytest.fixture(scope="module")
def typescript(server: RunningServer) -> dict[str, Any]:
    if not MODULES.exists():
        pytest.skip("the published TypeScript client is not installed: run scripts/setup")
    return report_of(["node", HERE / "typescript_client.mjs"], server)


def expected(states: dict[str, str]) -> dict[str, str]:
    """What a method must come to. What is not one request to this server is not driven yet."""
    undriven = {"webhooks.on", "webhooks.receive", "fs.mount"}
    return {
        name: "ok" if state == "works" else "NOT_IMPLEMENTED"
        for name, state in states.items()
        if name not in undriven
    }


def test_every_method_of_the_python_sdk_does_what_the_table_says(python: dict[str, Any]) -> None:
    assert python["stopped"] == []
    assert python["sdk"] == expected(python_methods())


def test_every_operation_of_the_low_level_python_client_does_what_the_table_says(
    python: dict[str, Any],
) -> None:
    assert python["rest"] == expected({each.rest: each.state for each in OPERATIONS})


@pytest.mark.needs("node")
def test_every_method_of_the_typescript_sdk_does_what_the_table_says(
    typescript: dict[str, Any],
) -> None:
    assert typescript["stopped"] == []
    assert typescript["sdk"] == expected(typescript_methods())


def test_the_table_names_every_method_of_the_python_packages(python: dict[str, Any]) -> None:
    assert python["sdk_surface"] == sorted(python_methods())
    assert python["rest_surface"] == sorted(each.rest for each in OPERATIONS)


@pytest.mark.needs("node")
def test_the_table_names_every_method_of_the_typescript_packages(
    typescript: dict[str, Any],
) -> None:
    assert typescript["sdk_surface"] == sorted(typescript_methods())
    assert typescript["rest_surface"] == sorted(each.rest_typescript for each in OPERATIONS)
