"""Mounts as a user makes them: the real command, a home of its own, a real server."""

from __future__ import annotations

import base64
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mesafs.base.clock import SystemClock
from mesafs.mount.fuse import mounting
from mesafs.sdk.folder_import import import_folder
from mesafs.sdk.sync_api import SyncApi
from mesafs.sync import Mesa
from mesafs.testing.server import RunningServer
from support.plain_git import environment, git, write_tree


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


class Administrator:
    """Whoever runs the server: makes repositories and credentials, and asks what the server has."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.client = Mesa(api_key=server.admin_key, api_url=server.url, org=server.org)

    def repository(self, content: Mapping[str, bytes] | Path | None = None) -> Repository:
        """A new repository, holding a folder, or files by path, or nothing."""
        name = f"repo-{secrets.token_hex(4)}"
        self.client.repos.create(name=name)
        repository = Repository(self, name)
        if content is not None:
            repository.publish(content)
        return repository

    def key(self, repository: Repository | None = None, *scopes: str) -> tuple[str, str]:
        """A new API key's id and text."""
        ids = None if repository is None else [self.client.repos.get(repo=repository.name).id]
        made = self.client.api_keys.create(scopes=list(scopes or ("read", "write")), repo_ids=ids)
        return str(made.id), str(made.key)

    def token(
        self, *repositories: Repository, scopes: Iterable[str] = ("read", "write"), ttl: int = 3600
    ) -> str:
        names = [repository.full_name for repository in repositories]
        created = self.client.tokens.create(scopes=list(scopes), repos=names, ttl_seconds=ttl)
        return str(created.token)

    def token_of(self, key: str, repository: Repository) -> str:
        """A token signed with another key."""
        with Mesa(api_key=key, api_url=self.server.url, org=self.server.org) as client:
            created = client.tokens.create(
                scopes=["read", "write"], repos=[repository.full_name], ttl_seconds=3600
            )
            return str(created.token)

    def close(self) -> None:
        self.client.close()


@dataclass(frozen=True)
class Repository:
    """One repository, as the server tells of it."""

    admin: Administrator
    name: str

    @property
    def full_name(self) -> str:
        return f"{self.admin.server.org}/{self.name}"

    def publish(self, content: Mapping[str, bytes] | Path) -> None:
        """Make this the bookmark's content, as ``mesa repo import --replace`` does."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = content if isinstance(content, Path) else Path(scratch)
            if not isinstance(content, Path):
                for path, data in content.items():
                    target = folder / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
            api = SyncApi(self.admin.client.transport)
            (state,) = api.resolve(self.admin.server.org, [(self.name, None)]).repositories
            import_folder(
                folder,
                api,
                state,
                message="content",
                replace=True,
                clock=SystemClock(),
                entropy=secrets.token_bytes,
                report=lambda _progress: None,
            )

    @property
    def tree(self) -> str:
        """The tree that the bookmark names now."""
        api = SyncApi(self.admin.client.transport)
        (state,) = api.resolve(self.admin.server.org, [(self.name, None)]).repositories
        return state.tree.hex()

    @property
    def operation(self) -> int:
        api = SyncApi(self.admin.client.transport)
        (state,) = api.resolve(self.admin.server.org, [(self.name, None)]).repositories
        return state.operation

    def clone(self, target: Path) -> Path:
        """A clone by plain git."""
        login = base64.b64encode(b"x:" + self.admin.server.admin_key.encode()).decode()
        header = f"http.extraHeader=Authorization: Basic {login}"
        url = f"{self.admin.server.url}/{self.full_name}.git"
        git("-c", header, "clone", "--quiet", url, target)
        return target


@dataclass
class Mounted:
    """A machine's user with one mount point, and what they can do from their shell."""

    repository: Repository
    home: Path
    credential: str
    url: str
    options: tuple[str, ...] = ()
    state_home: Path = Path()
    mount_point: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.mount_point = self.home / "mnt"
        if self.state_home == Path():
            self.state_home = self.home / "state"

    @property
    def folder(self) -> Path:
        """The repository in the mount."""
        return self.mount_point / self.repository.admin.server.org / self.repository.name

    def mesa(self, *arguments: str, credential: str | None = None, **environment: str) -> Ran:
        """The ``mesa`` command in this user's shell."""
        settings = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.state_home),
            "MESA_API_URL": self.url,
            "MESA_ORG": self.repository.admin.server.org,
            "MESA_API_KEY": self.credential if credential is None else credential,
            "MESA_MOUNT_POINT": str(self.mount_point),
            **environment,
        }
        done = subprocess.run(
            [sys.executable, "-m", "mesafs.cli.main", *arguments],
            env={name: value for name, value in settings.items() if value},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def try_to_mount(self, *options: str, credential: str | None = None, **settings: str) -> Ran:
        return self.mesa("mount", "-d", *self.options, *options, credential=credential, **settings)

    def mount(self, *options: str) -> None:
        ran = self.try_to_mount(*options)
        assert ran.status == 0, ran.err + self.log

    def sync(self) -> None:
        ran = self.mesa("sync", str(self.mount_point))
        assert ran.status == 0, ran.err + self.log

    def unmount(self) -> None:
        ran = self.mesa("unmount", str(self.mount_point))
        assert ran.status == 0, ran.err + self.log

    @property
    def status(self) -> dict[str, Any]:
        (answer,) = self.mesa("status", "--json", str(self.mount_point)).json["mounts"]
        return dict(answer)

    @property
    def checkout(self) -> dict[str, Any]:
        """What the status says of the repository."""
        (entry,) = self.status["repositories"]
        return dict(entry)

    @property
    def log(self) -> str:
        """Everything that the daemons here have logged."""
        logs = sorted((self.state_home / "mesa/logs").glob("*.log"))
        return "".join(log.read_text("utf-8", "replace") for log in logs)

    @property
    def pid(self) -> int:
        return int(self.status["pid"])

    @property
    def is_mounted(self) -> bool:
        return mounting.is_ours(self.mount_point)

    def assert_published(self) -> None:
        """Everything in the folder is on the server, byte for byte and mode for mode."""
        self.sync()
        published = self.checkout

        assert published["unpublished"] == 0
        assert published["problem"] is None
        assert self.repository.tree == published["tree"]
        assert self.tree_by_git() == published["tree"]

    def tree_by_git(self) -> str:
        """What plain git says of a copy of the folder, without what is git's own in it."""
        with tempfile.TemporaryDirectory(prefix="copy-") as scratch:
            copy = Path(scratch, "copy")
            run(
                "rsync",
                "-a",
                "--no-devices",
                "--no-specials",
                "--exclude=.git",
                f"{self.folder}/",
                copy,
            )
            return write_tree(copy)

    def daemons(self) -> list[int]:
        """Processes that serve mounts of this home."""
        found = []
        for instance in (self.state_home / "mesa/run").glob("*.json"):
            with suppress(OSError, ValueError):
                pid = int(json.loads(instance.read_bytes())["pid"])
                if b"mesafs" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def kill_daemon(self) -> None:
        """As a crash would; all its threads are gone when this returns."""
        for pid in self.daemons():
            process = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                assert select.select([process], [], [], 10)[0], "the daemon does not end"
            finally:
                os.close(process)

    def end(self) -> None:
        """Whatever state it is in, nothing stays."""
        self.kill_daemon()
        while self.is_mounted:
            mounting.unmount(self.mount_point, lazy=True)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run an ordinary program and return its output; its failure is shown with what it said."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environment(), "TZ": "UTC"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def refused(code: int) -> pytest.RaisesExc[OSError]:
    """Expect that a call fails with this errno."""
    return pytest.raises(OSError, match=rf"\[Errno {code}\]")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())
