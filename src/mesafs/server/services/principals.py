"""Who presents a credential, and what it may do at this moment.

Answered from the key's row each time: nothing here remembers a grant, so a key that is revoked or
narrowed is so from the next call on, and its tokens with it.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Connection

from mesafs.auth.api_keys import signing_secret
from mesafs.auth.principals import Principal, clamp_repositories
from mesafs.auth.scopes import clamp
from mesafs.auth.sealing import lookup, unseal
from mesafs.auth.tokens import CLOCK_SKEW_SECONDS, Claims, KeyFacts, looks_like_token, verify
from mesafs.base.errors import Unauthenticated
from mesafs.model.ids import ApiKeyId, OrganisationId, RepositoryId
from mesafs.server.backing import Backing
from mesafs.store import keys, organisations, repositories
from mesafs.store.keys import KeyRow

MAX_CREDENTIAL_LENGTH = 8192
_SECOND = 1_000_000_000
#: How old ``last_used_at`` of a key may be: exact enough for people, and no write for each request.
_USE_NOTED_EVERY_NS = 60 * _SECOND


class KeyRefused(Unauthenticated):
    """The same words for unknown, revoked and expired: only a holder may learn which."""

    default_code: ClassVar[str | None] = "UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__(
            "the API key is unknown, revoked or expired",
            hint="check MESA_API_KEY; create another key with `mesa key create`",
        )


class Principals:
    def __init__(self, backing: Backing) -> None:
        self._backing = backing

    def principal_for(self, credential: str) -> Principal:
        """The principal of an API key or access token, or an ``Unauthenticated`` error."""
        backing = self._backing
        if len(credential) > MAX_CREDENTIAL_LENGTH or not credential.isascii():
            raise KeyRefused
        now_ns = backing.clock.now_ns()
        with backing.catalogue.read() as connection:
            if looks_like_token(credential):
                row, principal = self._by_token(connection, credential, now_ns)
            else:
                row, principal = self._by_key(connection, credential, now_ns)
        self._note_use(row, now_ns)
        return principal

    def _by_key(
        self, connection: Connection, credential: str, now_ns: int
    ) -> tuple[KeyRow, Principal]:
        digest = lookup(self._backing.server_secret, signing_secret(credential))
        row = keys.by_lookup(connection, digest)
        if row is None or not row.usable(now_ns):
            raise KeyRefused
        return row, _principal(connection, row, None)

    def _by_token(
        self, connection: Connection, credential: str, now_ns: int
    ) -> tuple[KeyRow, Principal]:
        rows: list[KeyRow] = []

        def find(key: ApiKeyId) -> KeyFacts | None:
            row = keys.by_id(connection, key)
            if row is None:
                return None
            rows.append(row)
            return KeyFacts(
                id=row.id,
                signing_secret=unseal(self._backing.server_secret, row.id, row.sealed_secret),
                revoked=row.revoked_ns is not None,
                expires_at_seconds=None if row.expires_ns is None else row.expires_ns // _SECOND,
            )

        claims = verify(credential, find, now_ns // _SECOND)
        return rows[0], _principal(connection, rows[0], claims)

    def _note_use(self, row: KeyRow, now_ns: int) -> None:
        if row.last_used_ns is None or now_ns - row.last_used_ns > _USE_NOTED_EVERY_NS:
            self._backing.catalogue.mutate_later(
                lambda connection: keys.used(connection, row.id, at_ns=now_ns)
            )


def _principal(connection: Connection, row: KeyRow, claims: Claims | None) -> Principal:
    organisation = organisations.by_id(connection, row.organisation)
    if organisation is None:
        raise KeyRefused
    expires = None if row.expires_ns is None else row.expires_ns // _SECOND
    scopes, allowed, jti = row.scopes, row.repositories, None
    if claims is not None:
        scopes = clamp(claims.scopes, row.scopes)
        allowed = clamp_repositories(
            claims,
            organisation_slug=organisation.slug,
            held=row.repositories,
            find=_finder(connection, organisation.id, claims),
        )
        expires = min(claims.expires_at_seconds, expires or claims.expires_at_seconds)
        jti = claims.jti
    return Principal(
        organisation=organisation.id,
        organisation_slug=organisation.slug,
        organisation_name=organisation.name,
        key_id=row.id,
        key_name=row.name,
        scopes=scopes,
        repositories=allowed,
        is_token=claims is not None,
        jti=jti,
        expires_at_seconds=expires,
    )


class _finder:  # noqa: N801 - a function with state
    """Resolve a name in a token; one that meant another repository after the token's issue is void."""

    def __init__(
        self, connection: Connection, organisation: OrganisationId, claims: Claims
    ) -> None:
        self._connection = connection
        self._organisation = organisation
        self._since_ns = (claims.issued_at_seconds - CLOCK_SKEW_SECONDS) * _SECOND

    def __call__(self, name: str) -> RepositoryId | None:
        row = repositories.by_name(self._connection, self._organisation, name)
        if row is None or repositories.changed_hands(
            self._connection, row, since_ns=self._since_ns
        ):
            return None
        return row.id
