"""When an automatic snapshot may amend, and who its commits are by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesafs.model.ids import ApiKeyId
from mesafs.vcs.changes import ChangeFacts, automatic_signature, may_amend

OPEN = ChangeFacts(origin="mount", closed=False, has_children=False, parents=1, bookmarks=1)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (OPEN, True),
        (replace(OPEN, origin="rest"), True),
        (replace(OPEN, origin="git"), False),
        (replace(OPEN, origin="import"), False),
        (replace(OPEN, origin="merge"), False),
        (replace(OPEN, closed=True), False),
        (replace(OPEN, has_children=True), False),
        (replace(OPEN, parents=2), False),
        (replace(OPEN, bookmarks=0), False),
        (replace(OPEN, bookmarks=2), False),
        (replace(OPEN, signed=True), False),
    ],
)
def test_only_an_open_change_may_be_amended(facts: ChangeFacts, *, expected: bool) -> None:
    assert may_amend(facts) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ci", "ci"), (None, "mesa"), ("", "mesa"), ("a <b>\nc", "a bc"), ("<>", "mesa")],
)
def test_an_automatic_commit_is_by_the_key(name: str | None, expected: str) -> None:
    who = automatic_signature(ApiKeyId("key_1"), name, 5)

    assert (who.name, who.email, who.seconds) == (expected, "key_1@mesa.invalid", 5)
