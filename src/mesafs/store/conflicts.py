"""Rows of conflicts: what could not be merged, by commit and path."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from mesafs.model.ids import CommitId, RepositoryId
from mesafs.model.merge import Conflict, terms_from_json, terms_to_json
from mesafs.store.schema import conflicts


def insert(
    connection: Connection,
    repository: RepositoryId,
    commit: CommitId,
    new: Mapping[bytes, Conflict],
) -> None:
    """Record the conflicts of a commit; again for the same commit changes nothing."""
    known = of_commit(connection, repository, commit)
    rows = [
        {"repo_id": repository, "commit": commit, "path": path, "terms": terms_to_json(conflict)}
        for path, conflict in new.items()
        if path not in known
    ]
    if rows:
        connection.execute(conflicts.insert(), rows)


def of_commit(
    connection: Connection, repository: RepositoryId, commit: CommitId
) -> dict[bytes, Conflict]:
    """Conflicts of a commit by slash-separated path, in order of path."""
    rows = connection.execute(
        select(conflicts.c.path, conflicts.c.terms)
        .where(conflicts.c.repo_id == repository, conflicts.c.commit == commit)
        .order_by(conflicts.c.path)
    )
    return {row.path: terms_from_json(row.terms) for row in rows}
