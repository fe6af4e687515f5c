"""Three-way merge by path and by line: nothing is lost and no side wins silently."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from mesafs.model.ids import BlobId, TreeId
from mesafs.model.merge import Conflict, resolved
from mesafs.model.objects import MODE_EXECUTABLE, MODE_SYMLINK
from mesafs.store.objects import Draft
from mesafs.testing.trees import Link, Tool, TreeOf, files_of
from mesafs.vcs.merge import Merged, merge
from mesafs.vcs.trees import lookup

Contents = dict[str, bytes]

BASE: Contents = {"a": b"1\n2\n3\n4\n5\n", "b": b"b\n", "d/x": b"x\n", "d/y": b"y\n"}


def sides(conflict: Conflict, draft: Draft) -> list[bytes | None]:
    return [None if term is None else draft.blob(BlobId(term.id)) for term in conflict.adds]


def change(base: Contents, changes: dict[str, bytes | None]) -> Contents:
    both: dict[str, bytes | None] = {**base, **changes}
    return {path: content for path, content in both.items() if content is not None}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({}, {}, {}),
        ({"b": b"B\n"}, {}, {"b": b"B\n"}),
        ({}, {"b": b"B\n"}, {"b": b"B\n"}),
        ({"b": b"B\n"}, {"b": b"B\n"}, {"b": b"B\n"}),
        ({"a": b"one\n2\n3\n4\n5\n"}, {"a": b"1\n2\n3\n4\nfive\n"}, {"a": b"one\n2\n3\n4\nfive\n"}),
        ({"new": b"n"}, {"other": b"o"}, {"new": b"n", "other": b"o"}),
        ({"new": b"n"}, {"new": b"n"}, {"new": b"n"}),
        ({"b": None}, {"a": b"A"}, {"b": None, "a": b"A"}),
        ({"b": None}, {"b": None}, {"b": None}),
        ({"d/x": None}, {"d/y": None}, {"d/x": None, "d/y": None}),
        ({"d/x": None, "d/y": None}, {"d/z": b"z"}, {"d/x": None, "d/y": None, "d/z": b"z"}),
        ({"d/x": None, "d/y": None, "d": b"f"}, {"b": b"B"}, {"d/x": None, "d/y": None, "d": b"f", "b": b"B"}),
        ({"b": None, "b/in": b"i"}, {"a": b"A"}, {"b": None, "b/in": b"i", "a": b"A"}),
    ],
)  # fmt: skip
def test_changes_that_do_not_meet_merge_cleanly(
    draft: Draft, tree_of: TreeOf, ours: Contents, theirs: Contents, expected: Contents
) -> None:
    trees = [tree_of(change(BASE, changes)) for changes in ({}, ours, theirs)]

    merged = merge(draft, *trees)

    assert merged.conflicts == {}
    assert merged.tree == tree_of(change(BASE, expected))


@pytest.mark.parametrize(
    ("ours", "theirs", "shown", "contested"),
    [
        ({"b": b"B1\n"}, {"b": b"B2\n"}, {"b": b"B1\n"}, {"b": [b"B1\n", b"B2\n"]}),
        ({"b": None}, {"b": b"B2\n"}, {"b": b"B2\n"}, {"b": [None, b"B2\n"]}),
        ({"b": b"B1\n"}, {"b": None}, {"b": b"B1\n"}, {"b": [b"B1\n", None]}),
        ({"n": b"1\n"}, {"n": b"2\n"}, {"n": b"1\n"}, {"n": [b"1\n", b"2\n"]}),
        ({"b": b"\0one"}, {"b": b"\0two"}, {"b": b"\0one"}, {"b": [b"\0one", b"\0two"]}),
        ({"l": Link(b"1")}, {"l": Link(b"2")}, {"l": Link(b"1")}, {"l": [b"1", b"2"]}),
        ({"b": Link(b"1")}, {"b": b"two\n"}, {"b": Link(b"1")}, {"b": [b"1", b"two\n"]}),
        (
            {"d/x": None, "d/y": None},
            {"d/x": b"X\n"},
            {"d/x": b"X\n", "d/y": None},
            {"d/x": [None, b"X\n"]},
        ),
        (
            {"d/x": None, "d/y": None, "d": b"file\n"},
            {"d/x": b"X\n"},
            {"d/x": b"X\n", "d/y": None, "d~conflict": b"file\n"},
            {"d/x": [None, b"X\n"], "d~conflict": [b"file\n", None]},
        ),
        (
            {"n/in": b"i\n"},
            {"n": b"file\n"},
            {"n/in": b"i\n", "n~conflict": b"file\n"},
            {"n~conflict": [b"file\n", None]},
        ),
    ],
)
def test_what_cannot_be_merged_is_a_conflict_that_keeps_both_sides(
    draft: Draft,
    tree_of: TreeOf,
    ours: Contents,
    theirs: Contents,
    shown: Contents,
    contested: dict[str, list[bytes | None]],
) -> None:
    trees = [tree_of(change(BASE, changes)) for changes in ({}, ours, theirs)]

    merged = merge(draft, *trees)

    assert merged.tree == tree_of(change(BASE, shown))
    assert {
        path.decode(): sides(conflict, draft) for path, conflict in merged.conflicts.items()
    } == contested


def test_the_executable_bit_merges_apart_from_the_content(draft: Draft, tree_of: TreeOf) -> None:
    base = tree_of({"run": b"1\n"})

    merged = merge(draft, base, tree_of({"run": Tool(b"1\n")}), tree_of({"run": b"2\n"}))

    entry = lookup(draft, merged.tree, (b"run",))
    assert merged.conflicts == {}
    assert entry is not None
    assert (entry.mode, draft.blob(BlobId(entry.id))) == (MODE_EXECUTABLE, b"2\n")


def test_a_link_and_a_file_are_never_mixed(draft: Draft, tree_of: TreeOf) -> None:
    merged = merge(draft, tree_of({}), tree_of({"l": Link(b"to")}), tree_of({"l": b"to"}))

    entry = lookup(draft, merged.tree, (b"l",))
    assert entry is not None
    assert entry.mode == MODE_SYMLINK
    assert list(merged.conflicts) == [b"l"]


def test_a_conflict_is_carried_where_nobody_touched_it(draft: Draft, tree_of: TreeOf) -> None:
    first = conflicted(draft, tree_of)
    theirs = tree_of({"f": b"A\n", "other": b"o"})

    merged = merge(
        draft,
        first.tree,
        first.tree,
        theirs,
        base_conflicts=first.conflicts,
        our_conflicts=first.conflicts,
        their_conflicts=first.conflicts,
    )

    assert merged.conflicts == first.conflicts
    assert merged.tree == theirs


def test_a_side_that_resolved_a_conflict_resolves_it(draft: Draft, tree_of: TreeOf) -> None:
    first = conflicted(draft, tree_of)

    merged = merge(
        draft,
        first.tree,
        first.tree,
        tree_of({"f": b"A\n"}),
        base_conflicts=first.conflicts,
        our_conflicts=first.conflicts,
    )

    assert merged == Merged(tree_of({"f": b"A\n"}), {})


def test_an_edit_that_meets_a_conflict_becomes_one_more_side(draft: Draft, tree_of: TreeOf) -> None:
    first = conflicted(draft, tree_of)
    base = tree_of({"f": b"0\n"})

    merged = merge(draft, base, first.tree, tree_of({"f": b"C\n"}), our_conflicts=first.conflicts)

    assert sides(merged.conflicts[b"f"], draft) == [b"A\n", b"B\n", b"C\n"]


def test_every_line_of_a_random_merge_is_kept(draft: Draft, tree_of: TreeOf) -> None:
    seed = 20261124
    chance = random.Random(seed)
    for _ in range(200):
        base = {name: lines(chance) for name in "abc"}
        ours, theirs = (
            {**base, chance.choice("abcd"): lines(chance), "x" + side: side.encode()}
            for side in "12"
        )

        merged = merge(draft, tree_of(base), tree_of(ours), tree_of(theirs))

        kept = b"\n".join(files_of(draft, merged.tree).values()) + b"\n".join(
            content or b""
            for conflict in merged.conflicts.values()
            for content in sides(conflict, draft)
        )
        for side in (ours, theirs):
            for path, content in side.items():
                for line in content.splitlines():
                    assert line in kept or line in base.get(path, b""), (seed, path, line)


def lines(chance: random.Random) -> bytes:
    return b"".join(b"%d\n" % chance.randrange(1000) for _ in range(chance.randrange(1, 8)))


def conflicted(draft: Draft, tree_of: Callable[[Contents], TreeId]) -> Merged:
    base, ours, theirs = (tree_of({"f": content}) for content in (b"0\n", b"A\n", b"B\n"))
    merged = merge(draft, base, ours, theirs)
    assert merged.conflicts != {}
    assert merged.conflicts[b"f"] != resolved(None)
    return merged
