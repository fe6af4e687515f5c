"""Conflicts as text with markers and back, and in the form git stores."""

from __future__ import annotations

import pytest

from mesafs.model.ids import BlobId
from mesafs.model.merge import Conflict, Term, resolved
from mesafs.model.objects import MODE_FILE
from mesafs.store.objects import Draft
from mesafs.testing.trees import TreeOf, files_of
from mesafs.vcs.conflicts import conflict_tree, parse, render, side_trees
from mesafs.vcs.merge import merge

TEXTS = [
    (b"a\nb\nc\n", b"a\nB1\nc\n", b"a\nB2\nc\n"),
    (b"a\nb", b"a\nB1", b"a\nB2\n"),
    (b"", b"one", b"two"),
    (b"x\r\ny", b"x\r\n1", b"x\r\n2\r\n"),
    (b"h\n-------\nb\n", b"h\n-------\nB1\n", b"h\n-------\nB2\n"),
    (b"<<<<<<< conflict 1 of 1\nb\n", b"<<<<<<< conflict 1 of 1\n1\n", b"2\n"),
    (b"1\nm\n\n\n\n\n9\n", b"1a\nm\n\n\n\n\n9a\n", b"1b\nm\n\n\n\n\n9b\n"),
    (b"\r", b"\r1", b"\r2"),
]


def conflict_of(draft: Draft, *texts: bytes | None) -> Conflict:
    base, ours, theirs = (
        None if text is None else Term(MODE_FILE, draft.add_blob(text)) for text in texts
    )
    return Conflict((ours, theirs), (base,))


def test_a_conflict_is_shown_with_jujutsus_markers(draft: Draft) -> None:
    shown = render(draft, conflict_of(draft, b"a\nb\nc\n", b"a\nB1\nc\n", b"a\nB2\nc\n"))

    assert shown == (
        b"a\n<<<<<<< conflict 1 of 1\n+++++++ side #1\nB1\n------- base\nb\n"
        b"+++++++ side #2\nB2\n>>>>>>> conflict 1 of 1 ends\nc\n"
    )


@pytest.mark.parametrize("texts", TEXTS)
def test_text_that_was_not_edited_is_the_same_conflict(
    draft: Draft, texts: tuple[bytes, bytes, bytes]
) -> None:
    conflict = conflict_of(draft, *texts)

    assert parse(draft, render(draft, conflict), conflict) == conflict


def test_absence_survives_the_markers(draft: Draft) -> None:
    conflict = conflict_of(draft, b"a\nb\n", None, b"a\nB\n")

    assert parse(draft, render(draft, conflict), conflict) == conflict


def test_text_without_markers_resolves(draft: Draft) -> None:
    conflict = conflict_of(draft, *TEXTS[0])

    assert parse(draft, b"done\n", conflict) == resolved(Term(MODE_FILE, draft.add_blob(b"done\n")))


def test_an_edited_side_is_a_new_conflict_without_a_marker_in_any_side(draft: Draft) -> None:
    conflict = conflict_of(draft, *TEXTS[0])
    text = render(draft, conflict).replace(b"B1", b"better").replace(b"a\n", b"A\n", 1)

    edited = parse(draft, text, conflict)

    assert [draft.blob(BlobId(term.id)) for term in edited.adds if term] == [
        b"A\nbetter\nc\n",
        b"A\nB2\nc\n",
    ]
    assert [draft.blob(BlobId(term.id)) for term in edited.removes if term] == [b"A\nb\nc\n"]


@pytest.mark.parametrize(
    "cut", [b"+++++++ side #2\n", b"------- base\n", b"<<<<<<< conflict 1 of 1\n"]
)
def test_damaged_markers_keep_the_text_exactly(draft: Draft, cut: bytes) -> None:
    conflict = conflict_of(draft, *TEXTS[0])
    text = render(draft, conflict).replace(cut, b"")

    assert parse(draft, text, conflict) == resolved(Term(MODE_FILE, draft.add_blob(text)))


def test_resolving_one_block_of_two_leaves_one(draft: Draft) -> None:
    conflict = conflict_of(draft, *TEXTS[6])
    text = render(draft, conflict)
    end = b">>>>>>> conflict 1 of 2 ends\n"

    edited = parse(draft, b"first\n" + text[text.index(end) + len(end) :], conflict)

    assert b"conflict 1 of 1" in render(draft, edited)
    assert render(draft, edited).startswith(b"first\n")


def test_binary_sides_are_shown_without_markers(draft: Draft) -> None:
    conflict = conflict_of(draft, b"\0", b"\0one", b"\0two")

    assert render(draft, conflict) == b"\0one"


def test_git_gets_jujutsus_tree_form(draft: Draft, tree_of: TreeOf) -> None:
    trees = [tree_of({"f": content, "same": b"s"}) for content in (b"0", b"1", b"2")]
    merged = merge(draft, *trees)

    tree = conflict_tree(draft, merged.tree, merged.conflicts)

    assert side_trees(draft, merged.tree, merged.conflicts) == [trees[1], trees[0], trees[2]]
    files = files_of(draft, tree)
    assert "JJ-CONFLICT-README" in files
    del files["JJ-CONFLICT-README"]
    assert files == {
        "f": b"1",
        "same": b"s",
        ".jjconflict-base-0/f": b"0",
        ".jjconflict-base-0/same": b"s",
        ".jjconflict-side-0/f": b"1",
        ".jjconflict-side-0/same": b"s",
        ".jjconflict-side-1/f": b"2",
        ".jjconflict-side-1/same": b"s",
    }
