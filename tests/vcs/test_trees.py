"""File operations on trees, walking and comparing them."""

from __future__ import annotations

import pytest

from mesafs.git.receiving import IllegalTree
from mesafs.model.ids import EMPTY_TREE
from mesafs.model.objects import MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK
from mesafs.store.objects import Draft
from mesafs.testing.trees import Link, Tool, TreeOf, files_of
from mesafs.vcs.trees import (
    BadFileOperation,
    Delete,
    FileOperation,
    Upsert,
    apply,
    changed_paths,
    lookup,
    walk,
)

FILES = {"a": b"1", "d/b": b"2", "d/e/c": b"3", "run": Tool(b"4"), "l": Link(b"a")}


def upsert(path: str, content: bytes = b"new", mode: int | None = None) -> Upsert:
    return Upsert(tuple(path.encode().split(b"/")), content, mode)


def delete(path: str) -> Delete:
    return Delete(tuple(path.encode().split(b"/")))


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([], {}),
        ([upsert("a")], {"a": b"new"}),
        ([upsert("x/y/z")], {"x/y/z": b"new"}),
        ([delete("d/e/c")], {"d/e/c": None}),
        ([delete("d/e/c"), delete("d/b")], {"d/e/c": None, "d/b": None}),
        ([delete("a"), upsert("a/b")], {"a": None, "a/b": b"new"}),
        ([upsert("a/b"), delete("a")], {"a": None, "a/b": b"new"}),
        ([upsert("d"), delete("d/b"), delete("d/e/c")], {"d": b"new", "d/b": None, "d/e/c": None}),
    ],
)
def test_operations_do_what_they_say(
    draft: Draft,
    tree_of: TreeOf,
    operations: list[FileOperation],
    expected: dict[str, bytes | None],
) -> None:
    tree = apply(draft, tree_of(FILES), operations)

    wanted = {path: bytes(c) for path, c in (FILES | expected).items() if c is not None}
    assert files_of(draft, tree) == wanted
    assert all(draft.tree(entry.id) for _, entry in walk(draft, tree) if entry.is_tree)


@pytest.mark.parametrize(
    "operations",
    [
        [upsert("a"), upsert("a")],
        [upsert("a"), delete("a")],
        [upsert("n"), upsert("n/m")],
        [upsert("a/b")],
        [upsert("d")],
        [upsert("d"), delete("d/b")],
        [delete("nothing")],
        [delete("d")],
        [delete("a/b")],
        [upsert("a", mode=0o100600)],
    ],
)
def test_operations_that_contradict_are_refused_by_path(
    draft: Draft, tree_of: TreeOf, operations: list[FileOperation]
) -> None:
    with pytest.raises(BadFileOperation):
        apply(draft, tree_of(FILES), operations)


def test_a_mode_is_kept_unless_another_is_given(draft: Draft, tree_of: TreeOf) -> None:
    tree = apply(
        draft,
        tree_of(FILES),
        [upsert("run"), upsert("l", b"d"), upsert("a", mode=MODE_EXECUTABLE), upsert("n")],
    )

    modes = {b"/".join(path): entry.mode for path, entry in walk(draft, tree)}
    assert modes[b"run"] == modes[b"a"] == MODE_EXECUTABLE
    assert (modes[b"l"], modes[b"n"]) == (MODE_SYMLINK, MODE_FILE)


def test_a_link_to_nothing_is_refused(draft: Draft, tree_of: TreeOf) -> None:
    with pytest.raises(IllegalTree):
        apply(draft, tree_of(FILES), [upsert("l", b"")])


def test_removing_everything_leaves_the_empty_tree(draft: Draft, tree_of: TreeOf) -> None:
    assert apply(draft, tree_of({"a/b/c": b"1"}), [delete("a/b/c")]) == EMPTY_TREE


def test_changed_paths_name_files_and_not_directories(draft: Draft, tree_of: TreeOf) -> None:
    old, new = tree_of(FILES), tree_of({"a": b"2", "d": b"file", "run": b"4", "l": Link(b"a")})

    changed = {
        b"/".join(path).decode(): (was is not None, now is not None)
        for path, was, now in changed_paths(draft, old, new)
    }

    assert changed == {
        "a": (True, True),
        "d": (False, True),
        "d/b": (True, False),
        "d/e/c": (True, False),
        "run": (True, True),
    }


def test_depth_bounds_a_walk_and_lookup_follows_no_link(draft: Draft, tree_of: TreeOf) -> None:
    tree = tree_of({**FILES, "to-d": Link(b"d")})

    assert [path for path, _ in walk(draft, tree, 1)] == [
        (b"a",), (b"d",), (b"l",), (b"run",), (b"to-d",),
    ]  # fmt: skip
    assert lookup(draft, tree, (b"to-d", b"b")) is None
    assert lookup(draft, tree, (b"d", b"e", b"c")) is not None
