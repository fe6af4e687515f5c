"""Reading what has happened, for a stream that resumes from the number it saw last."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from mesafs.model.ids import RepositoryId
from mesafs.store.catalogue import Event
from mesafs.store.schema import events


def latest_id(connection: Connection) -> int:
    return connection.execute(select(func.max(events.c.id))).scalar_one() or 0


def after(
    connection: Connection,
    event_id: int,
    *,
    repositories: Collection[RepositoryId] | None = None,
    limit: int = 1000,
) -> list[Event]:
    """Events after ``event_id``, oldest first; of some repositories, or of everything."""
    query = select(events).where(events.c.id > event_id).order_by(events.c.id).limit(limit)
    if repositories is not None:
        query = query.where(events.c.repo_id.in_(list(repositories)))
    return [
        Event(row.id, row.org_id, row.repo_id, row.operation, row.type, row.payload, row.at_ns)
        for row in connection.execute(query)
    ]
