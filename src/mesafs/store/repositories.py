"""Rows of repositories. A deleted one is a tombstone that no reader here finds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, update

from mesafs.model.ids import OrganisationId, RepositoryId
from mesafs.store.schema import organisations, released_names, repositories


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    id: RepositoryId
    organisation: OrganisationId
    organisation_slug: str
    name: str
    default_bookmark: str
    tags: dict[str, str]
    created_ns: int


def folded(name: str) -> str:
    """The form in which two names of one organisation must differ."""
    return name.casefold()


def create(
    connection: Connection,
    *,
    repository: RepositoryId,
    organisation: OrganisationId,
    name: str,
    default_bookmark: str,
    tags: dict[str, str],
    created_ns: int,
) -> None:
    connection.execute(
        repositories.insert().values(
            id=repository,
            org_id=organisation,
            name=name,
            folded_name=folded(name),
            default_bookmark=default_bookmark,
            tags=tags,
            created_ns=created_ns,
        )
    )


def by_id(connection: Connection, repository: RepositoryId) -> RepositoryRow | None:
    return _one(connection, repositories.c.id == repository)


def by_name(
    connection: Connection, organisation: OrganisationId, name: str
) -> RepositoryRow | None:
    """The living repository of exactly this name."""
    return _one(
        connection,
        (repositories.c.org_id == organisation)
        & (repositories.c.folded_name == folded(name))
        & (repositories.c.name == name),
    )


def by_folded_name(
    connection: Connection, organisation: OrganisationId, name: str
) -> RepositoryRow | None:
    """The living repository whose name is this one but for its case."""
    return _one(
        connection,
        (repositories.c.org_id == organisation) & (repositories.c.folded_name == folded(name)),
    )


def of_organisation(
    connection: Connection,
    organisation: OrganisationId,
    *,
    only: Collection[RepositoryId] | None = None,
    after: str = "",
    limit: int | None = None,
    tags: Collection[tuple[str, str]] = (),
) -> list[RepositoryRow]:
    """Repositories in order of creation, after the id ``after``, that bear all of ``tags``."""
    query = (
        _joined()
        .where(
            repositories.c.org_id == organisation,
            repositories.c.deleted_ns.is_(None),
            repositories.c.id > after,
        )
        .order_by(repositories.c.id)
    )
    if only is not None:
        query = query.where(repositories.c.id.in_(list(only)))
    for key, value in tags:
        members = func.json_each(repositories.c.tags).table_valued("key", "value")
        query = query.where(
            select(1)
            .select_from(members)
            .where(members.c.key == key, func.lower(members.c.value) == value.lower())
            .exists()
        )
    if limit is not None:
        query = query.limit(limit)
    return [_row(row) for row in connection.execute(query)]


def count(
    connection: Connection,
    organisation: OrganisationId,
    *,
    only: Collection[RepositoryId] | None = None,
) -> int:
    query = (
        select(func.count())
        .select_from(repositories)
        .where(repositories.c.org_id == organisation, repositories.c.deleted_ns.is_(None))
    )
    if only is not None:
        query = query.where(repositories.c.id.in_(list(only)))
    return connection.execute(query).scalar_one()


def change(
    connection: Connection,
    row: RepositoryRow,
    *,
    name: str,
    default_bookmark: str,
    tags: dict[str, str],
    at_ns: int,
) -> None:
    """Replace what can be changed; a name that is given up is remembered as released."""
    if name != row.name:
        _release(connection, row, at_ns=at_ns)
    connection.execute(
        update(repositories)
        .where(repositories.c.id == row.id)
        .values(name=name, folded_name=folded(name), default_bookmark=default_bookmark, tags=tags)
    )


def bury(connection: Connection, row: RepositoryRow, *, at_ns: int) -> None:
    """Make a tombstone: nothing finds it by name or id any more, nothing of it is removed."""
    _release(connection, row, at_ns=at_ns)
    connection.execute(
        update(repositories).where(repositories.c.id == row.id).values(deleted_ns=at_ns)
    )


def changed_hands(connection: Connection, row: RepositoryRow, *, since_ns: int) -> bool:
    """Whether another repository bore this one's name at some moment after ``since_ns``."""
    return connection.execute(
        select(
            select(1)
            .where(
                released_names.c.org_id == row.organisation,
                released_names.c.name == row.name,
                released_names.c.released_ns >= since_ns,
                released_names.c.repo_id != row.id,
            )
            .exists()
        )
    ).scalar_one()


def _release(connection: Connection, row: RepositoryRow, *, at_ns: int) -> None:
    connection.execute(
        released_names.insert().values(
            org_id=row.organisation, name=row.name, repo_id=row.id, released_ns=at_ns
        )
    )


def _joined() -> Any:
    return select(repositories, organisations.c.slug).join(
        organisations, organisations.c.id == repositories.c.org_id
    )


def _one(connection: Connection, condition: ColumnElement[bool]) -> RepositoryRow | None:
    row = connection.execute(
        _joined().where(condition, repositories.c.deleted_ns.is_(None))
    ).one_or_none()
    return None if row is None else _row(row)


def _row(row: Row[Any]) -> RepositoryRow:
    return RepositoryRow(
        id=RepositoryId(row.id),
        organisation=OrganisationId(row.org_id),
        organisation_slug=row.slug,
        name=row.name,
        default_bookmark=row.default_bookmark,
        tags=row.tags,
        created_ns=row.created_ns,
    )
