"""The caller of one request: who it is and what it may do at this moment.

A principal is made anew for each request from the key's state now; it is never stored or cached. A
token's claims can only take away from what its key grants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesafs.auth.scopes import Scope, Scopes
from mesafs.auth.tokens import Claims
from mesafs.base.errors import Denied, NotFound
from mesafs.model.ids import ApiKeyId, OrganisationId, RepositoryId


@dataclass(frozen=True, slots=True)
class Principal:
    """``repositories`` None means every repository of the organisation, present and future.

    ``expires_at_seconds`` is when this grant ends by itself: the token's end, or the key's.
    """

    organisation: OrganisationId
    organisation_slug: str
    organisation_name: str
    key_id: ApiKeyId
    key_name: str | None
    scopes: Scopes
    repositories: frozenset[RepositoryId] | None
    is_token: bool
    jti: str | None
    expires_at_seconds: int | None

    def allows(self, scope: Scope, repository: RepositoryId | None = None) -> bool:
        """Whether ``scope`` is granted, and for ``repository`` where one is named."""
        return scope in self.scopes and (repository is None or self.sees(repository))

    def sees(self, repository: RepositoryId) -> bool:
        """Whether this repository exists for this caller at all, whatever the scope."""
        return self.repositories is None or repository in self.repositories

    def require(self, scope: Scope, repository: RepositoryId | None = None) -> None:
        """First line of every use case: an unseen repository is not found, a missing scope denied."""
        if repository is not None and not self.sees(repository):
            raise NotFound("no such repository")
        if scope not in self.scopes:
            raise Denied(
                f"this credential does not have the scope {scope.value}",
                hint=f"use an API key or token with the scope {scope.value}",
            )


def clamp_repositories(
    claims: Claims,
    *,
    organisation_slug: str,
    held: frozenset[RepositoryId] | None,
    find: Callable[[str], RepositoryId | None],
) -> frozenset[RepositoryId] | None:
    """The repositories of a token: what it names, as far as its key may see them now.

    ``find`` answers the id of a living repository of this organisation with *exactly* this name.
    Names of another organisation, names that are not ``org/repo`` and unknown ids grant nothing.
    """
    allowed = held
    if claims.repositories is not None:
        named = {
            found
            for full in claims.repositories
            for organisation, slash, name in [full.partition("/")]
            if slash and name and organisation == organisation_slug
            if (found := find(name)) is not None
        }
        allowed = frozenset(named if allowed is None else named & allowed)
    if claims.repository_ids is not None:
        listed = frozenset(RepositoryId(each) for each in claims.repository_ids)
        allowed = listed if allowed is None else listed & allowed
    return allowed
