"""The command against a real server: keys, tokens, repositories, a folder brought in, history read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mesafs.testing.server import RunningServer
from support.plain_git import write_tree

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("cli") / "data", org="acme") as running:
        yield running


@dataclass
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


Mesa = Callable[..., Ran]


@pytest.fixture
def mesa(server: RunningServer, tmp_path: Path) -> Mesa:
    """The real command in a process of its own, as an administrator unless told otherwise."""

    def run(*arguments: str, key: str = server.admin_key) -> Ran:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "mesafs.cli.main", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"HOME": str(tmp_path), "MESA_API_KEY": key, "MESA_API_URL": server.url},
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "tree"
    (place / "src/deep").mkdir(parents=True)
    (place / "README.md").write_text("# Hello\n")
    (place / "src/run.sh").write_text("#!/bin/sh\n")
    (place / "src/run.sh").chmod(0o755)
    (place / "src/link").symlink_to("run.sh")
    (place / "src/deep/data").write_bytes(bytes(range(256)) * 1000)
    (Path(os.fsdecode(os.fsencode(place) + b"/odd\xff"))).write_bytes(b"odd")
    return place


def test_whoami_says_who_and_what(mesa: Mesa, server: RunningServer) -> None:
    who = mesa("whoami", "--json").json

    assert who["org"]["slug"] == "acme"
    assert who["scopes"] == ["read", "write", "admin"]
    assert server.admin_key not in mesa("whoami").out


def test_a_wrong_key_and_an_unknown_repository_are_said_plainly(mesa: Mesa) -> None:
    wrong = mesa("whoami", key="mesa_live_" + "0" * 26 + "_" + "A" * 43)
    unknown = mesa("repo", "get", "nothing-here")

    assert (wrong.status, unknown.status) == (4, 1)
    assert wrong.err.startswith("mesa: ")
    assert unknown.err.startswith("mesa: ")
    assert "Traceback" not in wrong.err + unknown.err


def test_a_folder_is_imported_as_git_sees_it(mesa: Mesa, folder: Path) -> None:
    expected = write_tree(folder)
    (folder / ".git").mkdir()
    os.mkfifo(folder / "pipe")

    ran = mesa("repo", "import", str(folder), "--repo", "imported", "-m", "as it was", "--json")

    facts = ran.json
    assert facts["tree"] == expected
    assert facts["files"] == 5
    assert facts["skipped"] == [".git", "pipe"]
    assert "left out .git" in ran.err
    newest = mesa("change", "list", "--repo", "imported", "--json").json["changes"][0]
    assert (newest["id"], newest["message"]) == (facts["change"], "as it was")


def test_history_and_files_can_be_read(mesa: Mesa, folder: Path) -> None:
    change = mesa("repo", "import", str(folder), "--repo", "read", "--json").json["change"]

    listed = mesa("ls", "--repo", "read")
    shown = mesa("change", "show", change, "--repo", "read", "--json").json
    diff = mesa("diff", "z" * 32, change, "--repo", "acme/read")

    assert mesa("cat", "README.md", "--repo", "read").out == "# Hello\n"
    assert "README.md" in listed.out
    assert "src/" in listed.out
    assert "src/link" in shown["files"]
    assert "+# Hello" in diff.out
    assert "main" in mesa("bookmark", "list", "--repo", "read").out


def test_importing_again_changes_nothing_and_replacing_is_asked_for(
    mesa: Mesa, folder: Path
) -> None:
    first = mesa("repo", "import", str(folder), "--repo", "again", "--json").json
    (folder / "new").write_text("new")

    refused = mesa("repo", "import", str(folder), "--repo", "again")
    replaced = mesa("repo", "import", str(folder), "--repo", "again", "--replace", "--json").json
    same = mesa("repo", "import", str(folder), "--repo", "again", "--replace", "--json").json

    assert refused.status == 1
    assert "--replace" in refused.err
    assert replaced["tree"] != first["tree"]
    assert (same["tree"], same["is_new"]) == (replaced["tree"], False)


def test_a_token_does_what_it_says_and_ends_with_its_key(mesa: Mesa, folder: Path) -> None:
    mesa("repo", "import", str(folder), "--repo", "shared")
    mesa("repo", "create", "hidden")
    key = mesa("key", "create", "--name", "agent", "--scope", "write").out.strip()
    token = mesa(
        "token", "create", "--scope", "admin", "--repo", "shared", "--ttl", "5m", key=key
    ).out.strip()

    assert mesa("whoami", "--json", key=token).json["scopes"] == ["read", "write"]
    assert mesa("cat", "README.md", "--repo", "shared", key=token).out == "# Hello\n"
    assert mesa("repo", "get", "hidden", key=token).status == 1
    assert [each["name"] for each in mesa("repo", "list", "--json", key=token).json] == ["shared"]
    assert mesa("key", "create", key=token).status == 4
    key_id = mesa("whoami", "--json", key=key).json["key_id"]
    assert mesa("key", "revoke", key_id).status == 0
    assert mesa("cat", "README.md", "--repo", "shared", key=token).status == 4
    states = {each["id"]: each["revoked_at"] for each in mesa("key", "list", "--json").json}
    assert states[key_id] is not None


def test_a_deleted_repository_is_gone(mesa: Mesa) -> None:
    mesa("repo", "create", "brief")

    assert mesa("repo", "delete", "brief").status == 0
    assert mesa("repo", "get", "brief").status == 1
