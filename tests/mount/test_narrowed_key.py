"""A key that is narrowed under a living mount. The contract has no call for it, so the server of this
test runs in this process, where its own code narrows the key.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from mesafs.auth.scopes import Scope
from mesafs.base.clock import SystemClock
from mesafs.base.files import Files
from mesafs.mount.settings import MountSettings
from mesafs.server import app
from mesafs.server.backing import Backing
from mesafs.server.config import Settings
from mesafs.server.first_start import prepare
from mesafs.server.services.keys import Keys
from mesafs.server.services.principals import Principals
from mesafs.sync import Mesa
from mesafs.testing.mount import RunningMount, clear
from support.polling import poll

pytestmark = [pytest.mark.system, pytest.mark.needs("fuse"), pytest.mark.needs("root")]


@dataclass(frozen=True)
class OwnServer:
    url: str
    admin_key: str
    backing: Backing


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = Settings(data_dir=tmp_path / "data", organisation="acme", port=port)
        settings.data_dir.mkdir()
        with app.backing(settings, SystemClock(), Files()) as opened:
            _, admin_key = prepare(opened)
            assert admin_key is not None
            with _serving(app.create(opened), listener, opened):
                yield OwnServer(f"http://127.0.0.1:{port}", admin_key, opened)


@contextmanager
def _serving(application: object, listener: socket.socket, opened: Backing) -> Iterator[None]:
    config = uvicorn.Config(application, log_config=None, timeout_graceful_shutdown=5)  # type: ignore[arg-type]
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        poll(lambda: running.started, 10, what="the server starts")
        yield
    finally:
        opened.shutdown.begin()
        running.should_exit = True
        thread.join(20)


def test_a_key_narrowed_to_another_repository_ends_the_mount_within_a_second_and_keeps_the_edits(
    tmp_path: Path, server: OwnServer
) -> None:
    with Mesa(api_key=server.admin_key, api_url=server.url, org="acme") as mesa:
        mesa.repos.create(name="app")
        other = mesa.repos.create(name="other")
        made = mesa.api_keys.create(name="agent", scopes=["read", "write"])
    mount = RunningMount.start(
        MountSettings(
            api_url=server.url,
            credential=made.key,
            organisation="acme",
            mount_point=str(tmp_path / "mnt"),
            state=str(tmp_path / "state"),
            runtime=str(tmp_path / "run"),
            log_file=str(tmp_path / "mount.log"),
            uid=0,
            gid=0,
            repositories=[["app", None]],
        )
    )
    try:
        work = mount.folder("app")
        (work / "file").write_text("kept")
        mount.call("sync")
        poll(lambda: mount.call("status")["connected"], 5, what="the event stream is open")
        principal = Principals(server.backing).principal_for(server.admin_key)

        Keys(server.backing).narrow(
            principal,
            made.id,
            scopes=frozenset({Scope.READ, Scope.WRITE}),
            repository_ids=frozenset({other.id}),
        )

        def refused() -> bool:
            try:
                (work / "file").read_bytes()
            except PermissionError:
                return True
            return False

        poll(refused, 1.0, what="reads are refused")
        with pytest.raises(PermissionError):
            (work / "new").write_text("no")
        assert mount.call("status")["credential"]["state"] in {"narrowed", "revoked"}
    finally:
        mount.kill()
        clear(mount.settings)
