"""A server, its client as a sandbox gets it, and mounts, all below one folder and gone at the end.

The client is the archive that the server hands out, unpacked and compiled, run by ``python3 -I``:
what is measured is what is installed.

Invariant: whatever was started or mounted here is ended here, in the reverse order.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mesafs
from mesafs.server.http import client_archive
from mesafs.testing.server import RunningServer

ORGANISATION = "bench"
COMMAND_SECONDS = 600
READY_SECONDS = 10.0
POLL_SECONDS = 0.005
_COUNTED = re.compile(
    r'^mesa_(requests|sent_bytes)_total\{operation="([^"]*)".*\} (\d+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Moved:
    """What the server answered: requests and bytes sent, by its own counters."""

    requests: int
    sent_bytes: int
    by_operation: dict[str, int]


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted repository. ``home`` keeps its state; another home is another machine."""

    point: Path
    directory: Path
    home: Path


class Lab:
    def __init__(self, folder: Path, server: RunningServer) -> None:
        self.folder = folder
        self.server = server
        archive = client_archive.build(Path(mesafs.__file__).parent)
        self.archive_bytes = archive.size_bytes
        self.mesa: tuple[str, ...] = _install(archive.content, folder / "client")
        self._tokens: dict[str, str] = {}

    def environment(self, home: Path, credential: str) -> dict[str, str]:
        home.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "MESA_API_URL": self.server.url,
            "MESA_ORG": ORGANISATION,
            "MESA_API_KEY": credential,
        }

    def run(self, *arguments: str | Path, home: Path, credential: str | None = None) -> str:
        """One command of the client, to its end; its standard output."""
        done = subprocess.run(
            [*self.mesa, *map(str, arguments)],
            env=self.environment(home, credential or self.server.admin_key),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"mesa {arguments[0]} exited {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def repository(self, name: str, tree: Path | None = None) -> None:
        """A repository, with what is in a folder."""
        home = self.folder / "admin"
        self.run("repo", "create", name, home=home)
        if tree is not None:
            self.run("repo", "import", tree, "--repo", f"{ORGANISATION}/{name}", home=home)

    def token(self, repository: str) -> str:
        """A credential for one repository, the only one that a mount gets."""
        if repository not in self._tokens:
            arguments = (
                "--scope",
                "read",
                "--scope",
                "write",
                "--repo",
                f"{ORGANISATION}/{repository}",
            )
            said = self.run(
                "token", "create", *arguments, "--ttl", "12h", home=self.folder / "admin"
            )
            self._tokens[repository] = said.strip()
        return self._tokens[repository]

    @contextlib.contextmanager
    def mounted(self, repository: str, home: Path, *options: str) -> Iterator[Mount]:
        point = home / "mnt"
        point.mkdir(parents=True, exist_ok=True)
        where = ("--mount-point", point)
        self.run("mount", "-d", *where, *options, home=home, credential=self.token(repository))
        try:
            yield Mount(point, point / ORGANISATION / repository, home)
        finally:
            self.unmount(point, home)

    def unmount(self, point: Path, home: Path) -> None:
        """Take it away, whatever state a measurement left it in; what went wrong is said."""
        try:
            self.run("unmount", point, home=home)
        except SystemExit as failed:
            print(failed, *_last_lines(home), sep="\n", file=sys.stderr)
            if os.path.ismount(point):
                self.run("unmount", "--force", point, home=home)

    def script(self, path: Path, repository: str, home: Path, *lines: str) -> Path:
        """An executable shell script with the client's environment; ``$MESA`` is the client.

        It is a file, for a credential belongs into no argument list.
        """
        variables = self.environment(home, self.token(repository))
        exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        text = "\n".join(
            ("#!/bin/sh", "set -e", *exports, f"MESA='{shlex.join(self.mesa)}'", *lines)
        )
        path.write_text(f"{text}\n")
        path.chmod(stat.S_IRWXU)
        return path

    def settle(self, mount: Mount) -> None:
        """Return once the server has every edit, so that nothing of it runs in another's turn."""
        self.run("sync", mount.directory, home=mount.home)

    def daemon_memory_bytes(self, mount: Mount) -> int:
        """Resident memory of the daemon and of what it started."""
        answer = json.loads(self.run("status", "--json", mount.point, home=mount.home))
        return sum(_resident_bytes(pid) for pid in _with_children(answer["mounts"][0]["pid"]))

    def moved(self) -> Moved:
        """All that the server has answered so far."""
        with urllib.request.urlopen(f"{self.server.url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        requests: Counter[str] = Counter()
        sent = 0
        for kind, operation, count in _COUNTED.findall(text):
            if operation in ("metrics", "healthz", "readyz"):
                continue
            if kind == "requests":
                requests[operation] += int(count)
            else:
                sent += int(count)
        return Moved(requests.total(), sent, dict(requests))


@contextlib.contextmanager
def laboratory(folder: Path) -> Iterator[Lab]:
    with RunningServer.start(folder / "data", org=ORGANISATION) as server:
        yield Lab(folder, server)


@contextlib.contextmanager
def prototype(program: Path, folder: Path) -> Iterator[Path]:
    """The sketch of the FUSE layer over a folder of the same disk, its state journal on."""
    backing, point = folder / "backing", folder / "mnt"
    for directory in (backing, point):
        directory.mkdir(parents=True)
    arguments: Sequence[str | Path] = (program, backing, point, "--state", folder / "state")
    process = subprocess.Popen([sys.executable, *map(str, arguments)])
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not os.path.ismount(point):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the prototype did not mount")
            time.sleep(POLL_SECONDS)
        yield point
    finally:
        process.terminate()
        process.wait(READY_SECONDS)


def _install(content: bytes, target: Path) -> tuple[str, ...]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(target, filter="data")
    python = _interpreter()
    subprocess.run([python, "-I", "-m", "compileall", "-q", target], check=True)
    return (python, "-I", str(target / "launch.py"))


def _last_lines(home: Path) -> list[str]:
    """The end of the daemon's log: what a failure is understood by, once the folder is gone."""
    logs = sorted((home / ".local/state/mesa/logs").glob("*.log"))
    return [line for log in logs for line in log.read_text("utf-8", "replace").splitlines()[-40:]]


def _interpreter() -> str:
    """The one that the install script would take, never a shim that looks for another."""
    for candidate in ("/usr/local/bin/python3", "/usr/bin/python3"):
        asked = "import sys; sys.exit(sys.version_info < (3, 11))"
        if (
            Path(candidate).exists()
            and not subprocess.run([candidate, "-c", asked], check=False).returncode
        ):
            return candidate
    return sys.executable


def _with_children(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(")")[2].split()[1]
                )
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    size = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert size, "a running process has resident memory"
    return int(size[1]) * 1024
