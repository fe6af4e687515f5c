"""Rows of API keys. A key is found by a keyed digest and its signing secret is sealed: ``auth.sealing``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, update

from mesafs.auth.scopes import Scopes, names, parse_requested
from mesafs.model.ids import ApiKeyId, OrganisationId, RepositoryId
from mesafs.store.schema import api_keys


@dataclass(frozen=True, slots=True)
class KeyRow:
    """``repositories`` None means every repository of the organisation.

    ``scope_names`` are as they were asked for; ``scopes`` is all that they grant.
    """

    id: ApiKeyId
    organisation: OrganisationId
    name: str | None
    sealed_secret: bytes = field(repr=False)
    scope_names: tuple[str, ...]
    repositories: frozenset[RepositoryId] | None
    tags: dict[str, str]
    metadata: dict[str, Any] | None
    created_ns: int
    expires_ns: int | None
    revoked_ns: int | None
    last_used_ns: int | None

    @property
    def scopes(self) -> Scopes:
        return parse_requested(self.scope_names)

    def usable(self, now_ns: int) -> bool:
        return self.revoked_ns is None and (self.expires_ns is None or now_ns < self.expires_ns)


def create(connection: Connection, row: KeyRow, *, lookup: str) -> None:
    connection.execute(
        api_keys.insert().values(
            id=row.id,
            org_id=row.organisation,
            name=row.name,
            lookup=lookup,
            sealed_secret=row.sealed_secret,
            scopes=list(row.scope_names),
            repository_ids=None if row.repositories is None else sorted(row.repositories),
            tags=row.tags,
            metadata=row.metadata,
            created_ns=row.created_ns,
            expires_ns=row.expires_ns,
        )
    )


def by_lookup(connection: Connection, lookup: str) -> KeyRow | None:
    return _one(connection, api_keys.c.lookup == lookup)


def by_id(connection: Connection, key: ApiKeyId) -> KeyRow | None:
    return _one(connection, api_keys.c.id == key)


def of_organisation(
    connection: Connection,
    organisation: OrganisationId,
    *,
    after: str = "",
    limit: int,
    name_contains: str | None = None,
    status: str = "all",
    scope: str | None = None,
    repository: str | None = None,
    now_ns: int,
) -> list[KeyRow]:
    """A page of keys, oldest first. ``scope`` and ``repository`` ask whether a key lists them."""
    query = (
        select(api_keys)
        .where(api_keys.c.org_id == organisation, api_keys.c.id > after)
        .order_by(api_keys.c.id)
        .limit(limit)
    )
    if name_contains is not None:
        query = query.where(
            func.lower(api_keys.c.name).contains(name_contains.lower(), autoescape=True)
        )
    if status != "all":
        query = query.where(*_status(status, now_ns))
    if scope is not None:
        query = query.where(_lists(api_keys.c.scopes, scope))
    if repository is not None:
        query = query.where(
            api_keys.c.repository_ids.is_not(None), _lists(api_keys.c.repository_ids, repository)
        )
    return [_row(row) for row in connection.execute(query)]


def revoke(connection: Connection, key: ApiKeyId, *, at_ns: int) -> None:
    connection.execute(update(api_keys).where(api_keys.c.id == key).values(revoked_ns=at_ns))


def narrow(
    connection: Connection,
    key: ApiKeyId,
    *,
    scopes: Scopes,
    repositories: frozenset[RepositoryId] | None,
) -> None:
    """Replace what a key may do."""
    connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key)
        .values(
            scopes=names(scopes),
            repository_ids=None if repositories is None else sorted(repositories),
        )
    )


def set_tags(connection: Connection, key: ApiKeyId, tags: dict[str, str]) -> None:
    connection.execute(update(api_keys).where(api_keys.c.id == key).values(tags=tags))


def used(connection: Connection, key: ApiKeyId, *, at_ns: int) -> None:
    connection.execute(update(api_keys).where(api_keys.c.id == key).values(last_used_ns=at_ns))


def _status(status: str, now_ns: int) -> tuple[ColumnElement[bool], ...]:
    expired = (api_keys.c.expires_ns.is_not(None)) & (api_keys.c.expires_ns <= now_ns)
    match status:
        case "revoked":
            return (api_keys.c.revoked_ns.is_not(None),)
        case "expired":
            return (api_keys.c.revoked_ns.is_(None), expired)
        case _:
            return (api_keys.c.revoked_ns.is_(None), ~expired)


def _lists(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    members = func.json_each(column).table_valued("value")
    return select(1).select_from(members).where(members.c.value == value).exists()


def _one(connection: Connection, condition: ColumnElement[bool]) -> KeyRow | None:
    row = connection.execute(select(api_keys).where(condition)).one_or_none()
    return None if row is None else _row(row)


def _row(row: Row[Any]) -> KeyRow:
    listed = row.repository_ids
    return KeyRow(
        id=ApiKeyId(row.id),
        organisation=OrganisationId(row.org_id),
        name=row.name,
        sealed_secret=row.sealed_secret,
        scope_names=tuple(row.scopes),
        repositories=None
        if listed is None
        else frozenset(RepositoryId(repository) for repository in listed),
        tags=row.tags,
        metadata=row.metadata,
        created_ns=row.created_ns,
        expires_ns=row.expires_ns,
        revoked_ns=row.revoked_ns,
        last_used_ns=row.last_used_ns,
    )
