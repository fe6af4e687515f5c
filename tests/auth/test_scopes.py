"""Scopes: a closed hierarchy, read leniently from tokens and strictly from people."""

from __future__ import annotations

import pytest

from mesafs.auth.scopes import (
    NOTHING,
    Scope,
    clamp,
    grant,
    names,
    parse_claimed,
    parse_requested,
)
from mesafs.base.errors import Invalid


def test_a_scope_grants_every_weaker_one() -> None:
    assert names(grant([Scope.ADMIN])) == ["read", "write", "admin"]
    assert names(grant([Scope.WRITE])) == ["read", "write"]
    assert names(grant([Scope.READ])) == ["read"]


@pytest.mark.parametrize(
    ("claimed", "held", "effective"),
    [
        ("admin", "write", ["read", "write"]),
        ("read", "admin", ["read"]),
        ("write", "read", ["read"]),
        ("admin", "admin", ["read", "write", "admin"]),
    ],
)
def test_a_claim_is_clamped_by_what_is_held(claimed: str, held: str, effective: list[str]) -> None:
    assert names(clamp(parse_claimed([claimed]), parse_requested([held]))) == effective


@pytest.mark.parametrize(
    "value",
    [
        "admin",
        "read admin",
        [["admin"]],
        ["ADMIN"],
        ["admin "],
        ["root"],
        None,
        {},
        [1],
        {"admin": True},
        True,
    ],
    ids=lambda value: f"H-AUTH-13 {value!r}",
)
def test_a_claim_that_is_not_a_list_of_known_names_grants_nothing(value: object) -> None:
    assert parse_claimed(value) == NOTHING


def test_an_unknown_claim_does_not_spoil_a_known_one() -> None:
    assert names(parse_claimed(["read", "future"])) == ["read"]


def test_a_person_who_asks_for_an_unknown_scope_is_told() -> None:
    with pytest.raises(Invalid, match="'root', which is not a scope"):
        parse_requested(["read", "root"])
