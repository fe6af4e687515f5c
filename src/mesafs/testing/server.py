"""A real server in a process of its own, for tests and demonstrations.

The process gets a clean environment, a free port, and its log in a file. The same data folder can be
started again after ``stop`` or ``kill``, by default on the same port, as a restarted server would be.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

START_SECONDS = 20.0
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.01
ADMIN_KEY_FILE = "admin.key"


class ServerDidNotStart(RuntimeError):
    pass


@dataclass
class RunningServer:
    """A server that has answered ``/readyz``. ``url`` has no ``/v1`` at its end."""

    url: str
    admin_key: str
    org: str
    data_dir: Path
    process: subprocess.Popen[bytes]
    log_path: Path

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        org: str = "my-org",
        faults: str | None = None,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> Self:
        """Start a server on ``data_dir``, new or used before; returns once it takes requests.

        ``faults`` is a plan for ``mesafs.testing.faults``: ``step:nth:action``.
        """
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_file = data_dir / ADMIN_KEY_FILE
        log_path = data_dir / "server.log"
        command = [sys.executable, "-m", "mesafs.cli.main", "serve", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--data-dir", str(data_dir), "--org", org]
        command += ["--admin-key-file", str(key_file), *arguments]
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # it has the admin key, which no log may hold
                stderr=log,
                env=_environment(faults, environment or {}),
            )
        try:
            url = _wait_until_ready(process, data_dir, log_path)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return cls(url, key_file.read_text("ascii").strip(), org, data_dir, process, log_path)

    @property
    def api_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None, "the address names its port"
        return port

    def restart(self, *, faults: str | None = None) -> RunningServer:
        """Start again on the same data folder and port, after the process has ended."""
        assert self.process.poll() is not None, "stop or kill it first"
        return type(self).start(self.data_dir, org=self.org, faults=faults, port=self.port)

    def stop(self) -> int:
        """End it by SIGTERM; returns its exit status once it has drained."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()


def _environment(faults: str | None, more: Mapping[str, str]) -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "COVERAGE_PROCESS_START")
    environment = {name: os.environ[name] for name in kept if name in os.environ}  # noqa: TID251 - a clean one is made of it
    if faults is not None:
        environment["MESA_FAULT"] = faults
    return environment | dict(more)


def _wait_until_ready(process: subprocess.Popen[bytes], data_dir: Path, log: Path) -> str:
    pause = threading.Event()
    for _ in range(int(START_SECONDS / _POLL_SECONDS)):
        if process.poll() is not None:
            break
        url = _address(data_dir, process.pid)
        if url is not None and _answers(url):
            return url
        pause.wait(_POLL_SECONDS)
    text = log.read_text("utf-8", "replace")[-4000:]
    raise ServerDidNotStart(f"no server came up; status {process.poll()}, its log ends:\n{text}")


def _address(data_dir: Path, pid: int) -> str | None:
    """The address that this very process has written; an earlier one's may still be there."""
    try:
        written, _, url = (data_dir / "address").read_text("ascii").partition(" ")
    except FileNotFoundError:
        return None
    return url.strip() if written == str(pid) else None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310 - our own
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
