"""Organisations: what a caller may know of its own."""

from __future__ import annotations

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import NotFound
from mesafs.server.backing import Backing
from mesafs.store import organisations, repositories
from mesafs.store.organisations import OrganisationRow


class Organisations:
    def __init__(self, backing: Backing) -> None:
        self._catalogue = backing.catalogue

    def get(self, principal: Principal) -> tuple[OrganisationRow, int]:
        """The caller's organisation and the number of repositories that the caller can see."""
        principal.require(Scope.READ)
        with self._catalogue.read() as connection:
            row = organisations.by_id(connection, principal.organisation)
            if row is None:
                raise NotFound("no such organisation")
            return row, repositories.count(
                connection, principal.organisation, only=principal.repositories
            )
