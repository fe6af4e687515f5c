"""A scripted server for each test, stopped when the test ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.scripted_server import Script, ScriptedServer, Starter


@pytest.fixture
def scripted() -> Iterator[Starter]:
    running: list[ScriptedServer] = []

    def start(script: Script, *, hold: bool = False) -> ScriptedServer:
        running.append(ScriptedServer(script, hold=hold))
        return running[-1]

    yield start
    for server in running:
        server.stop()
