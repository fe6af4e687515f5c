"""What changed between two trees, by file and by line."""

from __future__ import annotations

from mesafs.store.objects import Draft
from mesafs.testing.trees import Link, Tool, TreeOf
from mesafs.vcs.diff import Hunk, Limits, Line, conflict_hunks, diff
from mesafs.vcs.merge import merge

OLD = {"same": b"s\n", "gone": b"g\n", "edit": b"1\n2\n3\n", "from": b"moved\n", "run": b"x\n"}
NEW = {
    "same": b"s\n",
    "edit": b"1\ntwo\n3",
    "to/here": b"moved\n",
    "run": Tool(b"x\n"),
    "n": b"n\n",
}


def test_files_are_added_deleted_modified_or_renamed(draft: Draft, tree_of: TreeOf) -> None:
    found = diff(draft, tree_of(OLD), tree_of(NEW))

    assert [(file.path, file.status, file.old_path) for file in found.files] == [
        (b"edit", "modified", None),
        (b"gone", "deleted", None),
        (b"n", "added", None),
        (b"run", "modified", None),
        (b"to/here", "renamed", b"from"),
    ]
    assert (found.additions, found.deletions, found.truncated) == (3, 3, False)


def test_lines_say_what_they_are(draft: Draft, tree_of: TreeOf) -> None:
    edit = diff(draft, tree_of(OLD), tree_of(NEW)).files[0]

    assert edit.hunks == (
        Hunk(
            1, 3, 1, 3,
            (
                Line("context", b"1\n"),
                Line("deleted", b"2\n"),
                Line("deleted", b"3\n"),
                Line("added", b"two\n"),
                Line("added", b"3"),
                Line("annotation", b"\n\\ No newline at end of file\n"),
            ),
        ),
    )  # fmt: skip


def test_what_is_not_shown_names_the_reason(draft: Draft, tree_of: TreeOf) -> None:
    new = {"a": b"\0", "b": b"x" * 100, "c": b"c\n", "d": b"d\n", "e": Link(b"c")}
    limits = Limits(files_with_lines=3, file_bytes=50, entries=4)

    found = diff(draft, tree_of({}), tree_of(new), limits=limits)

    assert [file.omitted_reason for file in found.files] == [
        "binary", "too_large", None, "file_limit",
    ]  # fmt: skip
    assert [file.hunks is None for file in found.files] == [True, True, False, True]
    assert found.truncated


def test_empty_files_are_not_taken_for_renames(draft: Draft, tree_of: TreeOf) -> None:
    found = diff(draft, tree_of({"a": b""}), tree_of({"b": b""}))

    assert [file.status for file in found.files] == ["deleted", "added"]


def test_conflicted_hunks_hold_their_three_sides(draft: Draft, tree_of: TreeOf) -> None:
    trees = [tree_of({"f": b"1\n" + middle + b"3\n"}) for middle in (b"2\n", b"A\n", b"B\n")]
    merged = merge(draft, *trees)

    (hunk,) = conflict_hunks(draft, b"f", merged.conflicts[b"f"])

    assert (hunk.target, hunk.base, hunk.source) == (b"A\n", b"2\n", b"B\n")
    assert (hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines) == (2, 1, 2, 1)
