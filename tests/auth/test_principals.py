"""What a token's repositories come to, and what a principal may do with them."""

from __future__ import annotations

import pytest

from mesafs.auth.principals import Principal, clamp_repositories
from mesafs.auth.scopes import Scope, grant
from mesafs.auth.tokens import Claims
from mesafs.base.errors import Denied, NotFound
from mesafs.model.ids import ApiKeyId, OrganisationId, RepositoryId

APP, DOCS = RepositoryId("repo_app"), RepositoryId("repo_docs")
FIND = {"app": APP, "docs": DOCS}.get


def claims(
    repositories: tuple[str, ...] | None, repository_ids: tuple[str, ...] | None = None
) -> Claims:
    return Claims(
        ApiKeyId("key_A"), grant([Scope.READ]), repositories, repository_ids, 0, 3600, "jti"
    )


def clamped(
    claim: Claims, held: frozenset[RepositoryId] | None = None
) -> frozenset[RepositoryId] | None:
    return clamp_repositories(claim, organisation_slug="acme", held=held, find=FIND)


def test_no_restriction_inherits_the_keys() -> None:
    assert clamped(claims(None)) is None
    assert clamped(claims(None), frozenset({APP})) == frozenset({APP})


def test_a_name_restricts_a_key_that_sees_all() -> None:
    assert clamped(claims(("acme/app",))) == frozenset({APP})


def test_h_auth_17_a_token_cannot_name_what_its_key_does_not_see() -> None:
    assert clamped(claims(("acme/app", "acme/docs")), frozenset({DOCS})) == frozenset({DOCS})


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("*",),
        ("acme/*",),
        ("acme/",),
        ("app",),
        ("/acme/app",),
        ("acme/APP",),
        ("acme/app ",),
        ("acme/app\u200b",),
        ("acme%2Fapp",),
        ("acme/app/",),
        ("acme//app",),
        ("ACME/app",),
        ("",),
        ("/",),
    ],
    ids=lambda names: f"H-AUTH-14 {names!r}",
)
def test_names_that_are_not_exactly_a_repository_grant_nothing(names: tuple[str, ...]) -> None:
    assert clamped(claims(names)) == frozenset()


def test_h_auth_15_a_name_of_another_organisation_grants_nothing() -> None:
    assert clamped(claims(("other-org/app",))) == frozenset()


def test_h_auth_15_names_and_ids_must_both_hold() -> None:
    assert clamped(claims(("acme/app", "acme/docs"), ("repo_docs",))) == frozenset({DOCS})
    assert clamped(claims(("acme/app",), ("repo_docs",))) == frozenset()


def test_h_auth_15_an_id_outside_the_keys_repositories_grants_nothing() -> None:
    assert clamped(claims(None, ("repo_of_another_org",)), frozenset({APP})) == frozenset()


def principal(scope: Scope, repositories: frozenset[RepositoryId] | None) -> Principal:
    return Principal(
        organisation=OrganisationId("org_1"),
        organisation_slug="acme",
        organisation_name="Acme",
        key_id=ApiKeyId("key_A"),
        key_name=None,
        scopes=grant([scope]),
        repositories=repositories,
        is_token=True,
        jti="jti",
        expires_at_seconds=3600,
    )


def test_a_principal_may_do_what_its_scopes_hold_where_it_sees() -> None:
    agent = principal(Scope.WRITE, frozenset({APP}))

    assert agent.allows(Scope.READ, APP)
    assert agent.allows(Scope.WRITE, APP)
    assert not agent.allows(Scope.ADMIN, APP)
    assert not agent.allows(Scope.READ, DOCS)


def test_an_unseen_repository_is_not_found_rather_than_denied() -> None:
    agent = principal(Scope.READ, frozenset({APP}))

    with pytest.raises(NotFound):
        agent.require(Scope.ADMIN, DOCS)
    with pytest.raises(Denied, match="scope write"):
        agent.require(Scope.WRITE, APP)
    agent.require(Scope.READ, APP)
