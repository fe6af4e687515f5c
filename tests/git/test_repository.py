"""Repositories on disk: packs that git accepts, flushed before they are visible."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mesafs.base.files import Files
from mesafs.git.children import environment, run
from mesafs.git.objects import parse_commit, serialise_commit
from mesafs.git.projection import project
from mesafs.git.receiving import MissingObjects, receive
from mesafs.git.repository import NoSuchObject, ObjectStore
from mesafs.model.ids import EMPTY_TREE, BlobId, ChangeId, CommitId, TreeId
from mesafs.model.objects import MODE_FILE, Commit, Signature, TreeEntry
from mesafs.store.objects import Draft
from mesafs.testing.sync_client import pack_of_draft

WHO = Signature("Ann", "ann@example.org", 1_700_000_000, -330)


class Steps(Files):
    """Fails at one named step, and remembers the order of all."""

    def __init__(self, failing: str | None = None) -> None:
        self.seen: list[str] = []
        self._failing = failing
        super().__init__(self._note)

    def _note(self, step: str) -> None:
        self.seen.append(step)
        if step == self._failing:
            raise OSError(step)


def commit_some(store: ObjectStore) -> tuple[Draft, CommitId, TreeId]:
    draft = Draft(store)
    entries = [TreeEntry(MODE_FILE, b"f%d" % n, draft.add_blob(b"%d" % n)) for n in range(300)]
    tree = draft.add_tree(entries)
    commit = draft.add_commit(
        Commit(tree, (), WHO, WHO, "first\n", ChangeId("k" * 32), ((b"x", b"one\ntwo"),))
    )
    return draft, commit, tree


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.create(tmp_path / "r.git", Files())


def test_what_was_written_is_read_back_and_git_agrees(store: ObjectStore) -> None:
    draft, commit, tree = commit_some(store)

    store.write(draft)

    assert store.commit(commit) == draft.commit(commit)
    assert store.tree(tree) == draft.tree(tree)
    assert store.blob(BlobId(store.tree(tree)[7].id)) == draft.blob(BlobId(draft.tree(tree)[7].id))
    assert store.missing([commit, tree, b"\1" * 20]) == {b"\1" * 20}
    checked = run(store.path, ["fsck", "--strict", "--no-dangling"])
    assert checked == b""
    shown = run(store.path, ["cat-file", "commit", commit.hex()])
    assert parse_commit(shown) == draft.commit(commit)
    assert serialise_commit(parse_commit(shown)) == shown


def test_a_pack_is_flushed_before_it_is_visible(tmp_path: Path) -> None:
    files = Steps()
    store = ObjectStore.create(tmp_path / "r.git", files)
    files.seen.clear()
    draft, _, _ = commit_some(store)

    store.write(draft)

    assert files.seen == [
        "pack.stage",
        "pack.sync",
        "pack.sync",
        "pack.rename",
        "pack.rename",
        "pack.dirsync",
    ]


@pytest.mark.parametrize("step", ["pack.stage", "pack.sync", "pack.rename", "pack.dirsync"])
def test_a_step_that_fails_leaves_a_repository_that_takes_the_same_pack_again(
    tmp_path: Path, step: str
) -> None:
    store = ObjectStore.create(tmp_path / "r.git", Files())
    draft, commit, _ = commit_some(store)

    with pytest.raises(OSError, match=step):
        ObjectStore(store.path, Steps(step)).write(draft)

    assert list((store.path / "incoming").iterdir()) == []
    store.write(draft)
    assert store.commit(commit) == draft.commit(commit)


def test_a_received_pack_may_refer_to_what_is_here_and_to_nothing_else(
    store: ObjectStore,
) -> None:
    first = Draft(store)
    blob = first.add_blob(b"here")
    receive(store, [pack_of_draft(first)], Files())
    good, bad = Draft(store), Draft(store)
    good.add_tree([TreeEntry(MODE_FILE, b"a", blob)])
    bad.add_tree([TreeEntry(MODE_FILE, b"a", b"\7" * 20)])

    receive(store, [pack_of_draft(good)], Files())
    with pytest.raises(MissingObjects) as raised:
        receive(store, [pack_of_draft(bad)], Files())

    assert raised.value.missing == (b"\7" * 20,)


def test_an_object_of_another_kind_is_not_the_object(store: ObjectStore) -> None:
    draft, commit, tree = commit_some(store)
    store.write(draft)

    with pytest.raises(NoSuchObject):
        store.blob(BlobId(tree))
    with pytest.raises(NoSuchObject):
        store.tree(TreeId(commit))
    assert store.tree(EMPTY_TREE) == []


def test_git_children_hear_nothing_of_the_caller(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_SSH_COMMAND", "GIT_CONFIG_PARAMETERS", "GIT_EXEC_PATH"):
        monkeypatch.setenv(name, "/nonexistent")

    assert run(store.path, ["rev-parse", "--git-dir"]).decode().strip() == str(store.path)
    assert environment()["GIT_CONFIG_NOSYSTEM"] == "1"
    assert not {"GIT_DIR", "GIT_SSH_COMMAND"} & environment().keys()


def test_refs_are_what_the_projection_says_and_nothing_else(store: ObjectStore) -> None:
    draft, commit, _ = commit_some(store)
    store.write(draft)

    written = project(store.path, Files(), {"main": commit, "a/b": commit}, default="main")
    again = project(store.path, Files(), {"main": commit, "a/b": commit}, default="main")
    project(store.path, Files(), {"main": commit}, default="main")

    assert (written, again) == (True, False)
    listed = subprocess.run(
        ["git", "-C", str(store.path), "for-each-ref", "--format=%(refname) %(objectname)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert listed == f"refs/heads/main {commit.hex()}\n"
