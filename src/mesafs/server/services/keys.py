"""API keys: made here, shown once, kept sealed; revoking one ends every token signed with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from mesafs.auth.api_keys import NewKey, generate, signing_secret
from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope, Scopes, parse_requested
from mesafs.auth.sealing import lookup, seal
from mesafs.base.errors import Denied, Invalid, NotFound
from mesafs.model.ids import ApiKeyId, OrganisationId, RepositoryId
from mesafs.server.backing import Backing
from mesafs.server.services.tags import edited
from mesafs.store import keys, operations, repositories
from mesafs.store.keys import KeyRow

DEFAULT_SCOPES = ("read", "write")
MIN_EXPIRY_SECONDS = 100
MAX_EXPIRY_SECONDS = 31_536_000
MAX_NAME_LENGTH = 200
_SECOND = 1_000_000_000


class Keys:
    def __init__(self, backing: Backing) -> None:
        self._backing = backing

    def create(
        self,
        principal: Principal,
        *,
        name: str | None,
        scopes: Sequence[str] | None,
        repository_ids: Sequence[str] | None,
        expires_in_seconds: int | None,
        tags: Mapping[str, str],
    ) -> tuple[KeyRow, NewKey]:
        """Make a key. Its text is in the answer and nowhere else."""
        _require_key(principal)
        if repository_ids is not None and not repository_ids:
            raise Invalid("repo_ids is empty", hint="leave it out for a key to every repository")
        if expires_in_seconds is not None and not (
            MIN_EXPIRY_SECONDS <= expires_in_seconds <= MAX_EXPIRY_SECONDS
        ):
            raise Invalid(
                f"expires_in_seconds must be from {MIN_EXPIRY_SECONDS} to {MAX_EXPIRY_SECONDS}"
            )
        if name is not None and not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise Invalid(f"name must have 1 to {MAX_NAME_LENGTH} characters")
        row, made, digest = new_key(
            self._backing,
            principal.organisation,
            name=name,
            scope_names=DEFAULT_SCOPES if scopes is None else tuple(dict.fromkeys(scopes)),
            repositories=None
            if repository_ids is None
            else frozenset(RepositoryId(each) for each in repository_ids),
            expires_in_seconds=expires_in_seconds,
            tags=edited({}, tags),
        )

        def create(connection: Connection) -> None:
            for repository in row.repositories or ():
                found = repositories.by_id(connection, repository)
                if found is None or found.organisation != principal.organisation:
                    raise Invalid(f"repo_ids names {repository[:80]!r}, which does not exist")
            store_key(connection, row, digest, principal=principal)

        self._backing.catalogue.mutate(create)
        return row, made

    def list(
        self,
        principal: Principal,
        *,
        after: str,
        limit: int,
        name_contains: str | None,
        status: str,
        scope: str | None,
        repository: str | None,
    ) -> list[KeyRow]:
        _require_admin(principal)
        with self._backing.catalogue.read() as connection:
            return keys.of_organisation(
                connection,
                principal.organisation,
                after=after,
                limit=limit,
                name_contains=name_contains,
                status=status,
                scope=scope,
                repository=repository,
                now_ns=self._backing.clock.now_ns(),
            )

    def revoke(self, principal: Principal, key: ApiKeyId) -> None:
        """End a key and all its tokens. Revoking again is not an error."""
        _require_key(principal)
        now_ns = self._backing.clock.now_ns()

        def revoke(connection: Connection) -> None:
            row = _own(connection, principal, key)
            if row.revoked_ns is None:
                keys.revoke(connection, key, at_ns=now_ns)
            operations.record(
                connection,
                organisation=principal.organisation,
                repository=None,
                kind="api_key.revoke",
                principal=principal,
                at_ns=now_ns,
                before={"key": key, "revoked": row.revoked_ns is not None},
                after={"key": key, "revoked": True},
                events=[("api_key.revoked", {"key": key})],
            )

        self._backing.catalogue.mutate(revoke)

    def change_tags(
        self, principal: Principal, key: ApiKeyId, edits: Mapping[str, str | None]
    ) -> dict[str, str]:
        _require_key(principal)
        now_ns = self._backing.clock.now_ns()

        def change(connection: Connection) -> dict[str, str]:
            row = _own(connection, principal, key)
            tags = edited(row.tags, edits)
            keys.set_tags(connection, key, tags)
            operations.record(
                connection,
                organisation=principal.organisation,
                repository=None,
                kind="api_key.tags",
                principal=principal,
                at_ns=now_ns,
                before={"key": key, "tags": row.tags},
                after={"key": key, "tags": tags},
            )
            return tags

        return self._backing.catalogue.mutate(change)

    def narrow(
        self,
        principal: Principal,
        key: ApiKeyId,
        *,
        scopes: Scopes,
        repository_ids: frozenset[RepositoryId] | None,
    ) -> None:
        """Take rights from a key; never gives any. Its tokens lose them with it, at once."""
        _require_key(principal)
        now_ns = self._backing.clock.now_ns()

        def narrow(connection: Connection) -> None:
            row = _own(connection, principal, key)
            held = row.repositories
            if not scopes <= row.scopes or (
                held is not None and (repository_ids is None or not repository_ids <= held)
            ):
                raise Denied("a key can only be narrowed", hint="create another key")
            keys.narrow(connection, key, scopes=scopes, repositories=repository_ids)
            operations.record(
                connection,
                organisation=principal.organisation,
                repository=None,
                kind="api_key.narrow",
                principal=principal,
                at_ns=now_ns,
                before={"key": key, "scopes": list(row.scope_names)},
                after={"key": key, "scopes": sorted(scope.value for scope in scopes)},
                events=[("api_key.narrowed", {"key": key})],
            )

        self._backing.catalogue.mutate(narrow)


def new_key(
    backing: Backing,
    organisation: OrganisationId,
    *,
    name: str | None,
    scope_names: Sequence[str],
    repositories: frozenset[RepositoryId] | None = None,
    expires_in_seconds: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> tuple[KeyRow, NewKey, str]:
    """A key that is not stored yet: its row, its text, and the digest it will be found by."""
    parse_requested(scope_names)
    now_ns = backing.clock.now_ns()
    made = generate(now_ns, backing.entropy)
    secret = signing_secret(made.text)
    row = KeyRow(
        id=made.id,
        organisation=organisation,
        name=name,
        sealed_secret=seal(backing.server_secret, made.id, secret, backing.entropy),
        scope_names=tuple(scope_names),
        repositories=repositories,
        tags=dict(tags or {}),
        metadata=None,
        created_ns=now_ns,
        expires_ns=None if expires_in_seconds is None else now_ns + expires_in_seconds * _SECOND,
        revoked_ns=None,
        last_used_ns=None,
    )
    return row, made, lookup(backing.server_secret, secret)


def store_key(
    connection: Connection, row: KeyRow, digest: str, *, principal: Principal | None
) -> None:
    keys.create(connection, row, lookup=digest)
    operations.record(
        connection,
        organisation=row.organisation,
        repository=None,
        kind="api_key.create",
        principal=principal,
        at_ns=row.created_ns,
        before=None,
        after={"key": row.id, "scopes": list(row.scope_names)},
        events=[("api_key.created", {"key": row.id})],
    )


def _require_admin(principal: Principal) -> None:
    principal.require(Scope.ADMIN)
    if principal.repositories is not None:
        raise Denied(
            "a credential for some repositories may not manage API keys",
            hint="use an API key without a restriction to repositories",
        )


def _require_key(principal: Principal) -> None:
    """Keys are managed with a key: a token must not be able to outlive itself."""
    _require_admin(principal)
    if principal.is_token:
        raise Denied("an access token may not manage API keys", hint="use an API key")


def _own(connection: Connection, principal: Principal, key: ApiKeyId) -> KeyRow:
    row = keys.by_id(connection, key)
    if row is None or row.organisation != principal.organisation:
        raise NotFound("no such API key", hint="`mesa key list` shows their ids")
    return row
