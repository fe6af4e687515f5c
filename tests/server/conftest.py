"""A real server in its own process, shared by the tests of one worker, and a plain client for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesafs.testing.server import RunningServer
from support.rest import Rest

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for many tests: each makes repositories and keys of its own."""
    with RunningServer.start(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server that no other test uses."""
    with RunningServer.start(tmp_path / "data") as running:
        yield running


@pytest.fixture
def rest(server: RunningServer) -> Iterator[Rest]:
    """The REST interface with the admin key."""
    with Rest(server.api_url, server.org, server.admin_key) as rest:
        yield rest


@pytest.fixture
def repo(rest: Rest) -> str:
    """The name of a new, empty repository."""
    name = f"repo-{next(_numbers)}"
    rest.post(f"/{rest.org}/repos", {"name": name}, expect=201)
    return name
