"""Rows of bookmarks: movable names for changes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from mesafs.model.ids import ChangeId, RepositoryId
from mesafs.store.schema import bookmarks


@dataclass(frozen=True, slots=True)
class BookmarkRow:
    repository: RepositoryId
    name: str
    change: ChangeId


def create(connection: Connection, repository: RepositoryId, name: str, change: ChangeId) -> None:
    connection.execute(bookmarks.insert().values(repo_id=repository, name=name, change_id=change))


def get(connection: Connection, repository: RepositoryId, name: str) -> BookmarkRow | None:
    change = connection.execute(
        select(bookmarks.c.change_id).where(
            bookmarks.c.repo_id == repository, bookmarks.c.name == name
        )
    ).scalar_one_or_none()
    return None if change is None else BookmarkRow(repository, name, ChangeId(change))


def of_repository(
    connection: Connection,
    repository: RepositoryId,
    *,
    after: str = "",
    limit: int | None = None,
) -> list[BookmarkRow]:
    """Bookmarks in order of name, after the name ``after``."""
    query = (
        select(bookmarks.c.name, bookmarks.c.change_id)
        .where(bookmarks.c.repo_id == repository, bookmarks.c.name > after)
        .order_by(bookmarks.c.name)
    )
    if limit is not None:
        query = query.limit(limit)
    return [
        BookmarkRow(repository, row.name, ChangeId(row.change_id))
        for row in connection.execute(query)
    ]


def move(connection: Connection, repository: RepositoryId, name: str, change: ChangeId) -> None:
    connection.execute(
        update(bookmarks)
        .where(bookmarks.c.repo_id == repository, bookmarks.c.name == name)
        .values(change_id=change)
    )


def naming(connection: Connection, repository: RepositoryId, change: ChangeId) -> list[str]:
    """Names of the bookmarks that are at ``change``."""
    return list(
        connection.execute(
            select(bookmarks.c.name)
            .where(bookmarks.c.repo_id == repository, bookmarks.c.change_id == change)
            .order_by(bookmarks.c.name)
        ).scalars()
    )


def count(connection: Connection, repository: RepositoryId) -> int:
    return connection.execute(
        select(func.count()).select_from(bookmarks).where(bookmarks.c.repo_id == repository)
    ).scalar_one()
