"""A machine to install on (a home, a PATH, a prefix) and a server to install from, which may lie."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import mesafs
from mesafs.server.http.client_archive import ClientArchive, build
from mesafs.server.http.install import install_facts, install_script


@pytest.fixture(scope="session")
def archive() -> ClientArchive:
    return build(Path(mesafs.__file__).parent)


class Origin(ThreadingHTTPServer):
    """Serves what ``answers`` holds: bytes, or a redirect's target as text."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, bytes | str] = {}
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        if isinstance(answer, str):
            self.send_response(302)
            self.send_header("Location", answer)
            answer = b""
        else:
            self.send_response(200 if answer is not None else 404)
        self.send_header("Content-Length", str(len(answer or b"")))
        self.end_headers()
        self.wfile.write(answer or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def origin(archive: ClientArchive) -> Iterator[Origin]:
    import json

    server = Origin()
    server.answers = {
        "/install.json": json.dumps(install_facts(archive)).encode(),
        "/client.tar.gz": archive.content,
    }
    yield server
    server.close()


@dataclass
class Machine:
    root: Path
    prefix: Path | None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def config(self) -> Path:
        return self.home / ".config" / "mesa" / "config.toml"

    @property
    def command(self) -> Path:
        assert self.prefix is not None
        return self.prefix / "bin" / "mesa"

    def env(self) -> dict[str, str]:
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"], **self.environment}
        if self.prefix is not None:
            env["MESA_INSTALL_PREFIX"] = str(self.prefix)
        return env

    def install(
        self, script: str, *arguments: str, before: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Pipe ``script`` into a shell, as the guide does."""
        return subprocess.run(
            [*before, "/bin/sh", "-s", "--", *arguments],
            input=script,
            env=self.env(),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )

    def files(self) -> list[str]:
        """Everything under this machine's folders, but what Python keeps for itself."""
        found = (str(path.relative_to(self.root)) for path in self.root.rglob("*"))
        return sorted(name for name in found if "__pycache__" not in name)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root = tmp_path / "machine"
    (root / "home").mkdir(parents=True)
    return Machine(root, prefix=root / "prefix")


@pytest.fixture
def script_of() -> Callable[[Origin], str]:
    return lambda origin: install_script(origin.url)
