"""Importing a folder, judged by git itself: the tree is the one that git writes for the folder."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from mesafs.base.clock import SystemClock
from mesafs.base.errors import Conflict, Exhausted, Invalid
from mesafs.model.ids import EMPTY_TREE, ROOT_CHANGE, ROOT_COMMIT, RepositoryId, TreeId
from mesafs.sdk import folder_import
from mesafs.sdk.folder_import import Imported, import_folder
from mesafs.sdk.sync_api import SyncApi, UploadedPack
from mesafs.wire.sync import MAX_PACK_BYTES, PublishAnswer, PublishRequest, RepositoryState

EMPTY = RepositoryState(
    RepositoryId("r"), "acme", "app", "main", ROOT_CHANGE, ROOT_COMMIT, EMPTY_TREE, 7, 3, "e1"
)


class GitServer:
    """Takes packs as a server does: git checks each strictly; publish wants every object there."""

    def __init__(self, repository: Path) -> None:
        self._git = ["git", f"--git-dir={repository}"]
        subprocess.run(["git", "init", "-q", "--bare", repository], check=True)
        self.published: list[PublishRequest] = []
        self.packs: list[int] = []

    def upload_pack(self, repository: str, checkout: str, file: BinaryIO) -> UploadedPack:
        file.seek(0)
        content = file.read()
        assert len(content) <= MAX_PACK_BYTES
        self.packs.append(len(content))
        subprocess.run(
            [*self._git, "index-pack", "--strict", "--stdin", "--fix-thin"],
            input=content,
            check=True,
            capture_output=True,
        )
        return UploadedPack("p", 0)

    def publish(self, repository: str, request: PublishRequest) -> PublishAnswer:
        self.published.append(request)
        walk = [*self._git, "rev-list", "--objects", request.tree.hex()]
        subprocess.run(walk, check=True, capture_output=True)
        state = RepositoryState(
            EMPTY.repository,
            "acme",
            "app",
            "main",
            ROOT_CHANGE,
            ROOT_COMMIT,
            request.tree,
            7,
            4,
            "e1",
        )
        return PublishAnswer(request.publish_id, state)


@pytest.fixture
def server(tmp_path: Path) -> GitServer:
    return GitServer(tmp_path / "server.git")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def bring(
    folder: Path, server: GitServer, target: RepositoryState = EMPTY, *, replace: bool = False
) -> Imported:
    return import_folder(
        folder,
        cast("SyncApi", server),
        target,
        message="m",
        replace=replace,
        clock=SystemClock(),
        entropy=os.urandom,
        report=lambda progress: None,
    )


def tree_by_git(folder: Path, tmp_path: Path) -> str:
    """What plain git writes for the folder, with an index and objects of its own."""
    git = ["git", f"--git-dir={tmp_path / 'judge.git'}", f"--work-tree={folder}"]
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "judge.git"], check=True)
    subprocess.run([*git, "config", "core.bare", "false"], check=True)
    subprocess.run([*git, "-c", "core.autocrlf=false", "add", "-Af", "."], check=True, cwd=folder)
    done = subprocess.run([*git, "write-tree"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.compat
def test_the_tree_is_the_one_that_git_writes(
    folder: Path, server: GitServer, tmp_path: Path
) -> None:
    (folder / "a.txt").write_bytes(b"hi\r\n")
    (folder / "empty").write_bytes(b"")
    (folder / "run.sh").write_bytes(b"#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("../../etc/passwd")
    (folder / "loop").symlink_to(".")
    for name in ("sub", "sub.d", "sub-a", "sub/deep/er"):
        (folder / name).mkdir(parents=True)
        (folder / name / "same").write_bytes(b"the same")
    (folder / "sub0").write_bytes(b"sorts between")
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))).write_bytes(b"not UTF-8")

    imported = bring(folder, server)

    assert imported.state.tree.hex() == tree_by_git(folder, tmp_path)
    assert imported.progress.files == 11
    assert imported.progress.skipped == []
    [request] = server.published
    assert (request.base_commit, request.message) == (ROOT_COMMIT, "m")


@pytest.mark.compat
def test_what_git_cannot_carry_is_left_out_and_named(
    folder: Path, server: GitServer, tmp_path: Path
) -> None:
    (folder / "kept").write_bytes(b"1")
    (folder / "sub").mkdir()
    (folder / "sub/kept").write_bytes(b"2")
    expected = tree_by_git(folder, tmp_path)
    (folder / ".git").mkdir()
    (folder / ".git/config").write_bytes(b"secret")
    (folder / "sub/.GIT").write_bytes(b"alias")
    (folder / "nothing/at/all").mkdir(parents=True)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))

        imported = bring(folder, server)

    assert imported.state.tree.hex() == expected
    assert [path for path, _ in imported.progress.skipped] == [
        b".git",
        b"pipe",
        b"socket",
        b"sub/.GIT",
    ]
    assert imported.progress.empty_directories == 3


@pytest.mark.compat
def test_full_packs_are_sent_on_the_way(
    folder: Path, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_import, "MAX_PACK_BYTES", 100_000)
    for number in range(10):
        (folder / f"random{number}").write_bytes(os.urandom(40_000))
        (folder / f"copy{number}").write_bytes((folder / f"random{number}").read_bytes())

    imported = bring(folder, server)

    assert imported.state.tree.hex() == tree_by_git(folder, tmp_path)
    assert len(server.packs) == 5
    assert max(server.packs) <= 100_000


def test_a_file_larger_than_a_pack_goes_alone(
    folder: Path, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_import, "MAX_PACK_BYTES", 10_000)
    (folder / "a").write_bytes(b"small")
    (folder / "large").write_bytes(os.urandom(20_000))
    (folder / "z").write_bytes(b"small too")

    imported = bring(folder, server)

    assert imported.state.tree.hex() == tree_by_git(folder, tmp_path)
    assert sorted(size > 10_000 for size in server.packs) == [False, False, True]


def test_a_file_larger_than_any_pack_stops_the_import_before_anything_is_published(
    folder: Path, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_import, "MAX_ONE_OBJECT_PACK_BYTES", 10_000)
    (folder / "large").write_bytes(os.urandom(20_000))

    with pytest.raises(Exhausted, match="large is over"):
        bring(folder, server)

    assert server.published == []


def test_a_folder_that_is_there_already_is_not_published_again(
    folder: Path, server: GitServer
) -> None:
    (folder / "a").write_bytes(b"1")
    first = bring(folder, server)

    again = bring(folder, server, first.state, replace=True)

    assert (first.is_new, again.is_new) == (True, False)
    assert len(server.published) == 1
    assert len(server.packs) == 1


def test_content_that_is_there_is_not_replaced_unasked(folder: Path, server: GitServer) -> None:
    (folder / "a").write_bytes(b"1")
    first = bring(folder, server)
    (folder / "a").write_bytes(b"2")

    with pytest.raises(Conflict, match="already has content") as caught:
        bring(folder, server, first.state)

    assert caught.value.hint is not None
    assert "--replace" in caught.value.hint
    assert bring(folder, server, first.state, replace=True).is_new


def test_an_empty_folder_is_the_empty_tree(folder: Path, server: GitServer) -> None:
    imported = bring(folder, server)

    assert imported.state.tree == TreeId(EMPTY_TREE)
    assert not imported.is_new


def test_a_folder_that_is_not_one_is_said(folder: Path, server: GitServer) -> None:
    with pytest.raises(Invalid, match="cannot be imported"):
        bring(folder / "none", server)


def test_a_file_swapped_for_a_link_while_walking_is_not_followed(
    folder: Path, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (folder / "a").write_bytes(b"1")
    real = os.open

    def swap_first(name: Any, flags: int, *more: Any, **options: Any) -> int:
        if name == b"a":
            (folder / "a").unlink()
            (folder / "a").symlink_to(secret)
        return real(name, flags, *more, **options)

    monkeypatch.setattr(os, "open", swap_first)

    with pytest.raises(Invalid, match="a cannot be read"):
        bring(folder, server)
    assert server.published == []
