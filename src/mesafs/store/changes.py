"""Rows of changes, the commits they have had, and who descends from whom.

The root change has no row: it is the parent of first changes, and its tree is empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from mesafs.model.ids import ROOT_CHANGE, ChangeId, CommitId, RepositoryId, TreeId
from mesafs.model.objects import Signature
from mesafs.store.schema import change_parents, changes, evolution

#: Databases limit the parameters of one statement.
_NAMED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A change at its current commit. ``tree`` is the content tree.

    ``origin`` says what opened it: ``mount``, ``rest``, ``import``, ``git`` or ``merge``.
    """

    repository: RepositoryId
    id: ChangeId
    commit: CommitId
    tree: TreeId
    parents: tuple[ChangeId, ...]
    message: str
    author: Signature
    committer: Signature
    origin: str
    closed: bool
    conflicted: bool
    created_ns: int
    updated_ns: int
    #: One more than the highest of its parents; set by :func:`insert` and :func:`amend`.
    generation: int = 0


@dataclass(frozen=True, slots=True)
class EvolutionRow:
    change: ChangeId
    sequence: int
    commit: CommitId
    tree: TreeId
    operation: int
    automatic: bool
    at_ns: int


def insert(connection: Connection, row: ChangeRow, *, operation: int, automatic: bool) -> None:
    """Add a change and the first entry of its evolution."""
    assert row.id != ROOT_CHANGE, "the root change is virtual"
    connection.execute(
        changes.insert().values(
            repo_id=row.repository,
            change_id=row.id,
            created_ns=row.created_ns,
            **_state(connection, row),
        )
    )
    _set_parents(connection, row)
    _evolve(connection, row, operation=operation, automatic=automatic)


def amend(connection: Connection, row: ChangeRow, *, operation: int, automatic: bool) -> None:
    """Give a change a new current commit; the earlier ones stay in its evolution."""
    connection.execute(
        update(changes)
        .where(changes.c.repo_id == row.repository, changes.c.change_id == row.id)
        .values(**_state(connection, row))
    )
    _set_parents(connection, row)
    _evolve(connection, row, operation=operation, automatic=automatic)


def close(connection: Connection, repository: RepositoryId, change: ChangeId) -> None:
    """Automatic snapshots may not amend this change any more."""
    connection.execute(
        update(changes)
        .where(changes.c.repo_id == repository, changes.c.change_id == change)
        .values(closed=True)
    )


def get(connection: Connection, repository: RepositoryId, change: ChangeId) -> ChangeRow | None:
    """A change of this repository; None for the root, which has no row."""
    row = connection.execute(
        select(changes).where(changes.c.repo_id == repository, changes.c.change_id == change)
    ).one_or_none()
    return None if row is None else _row(row)


def by_commit(
    connection: Connection, repository: RepositoryId, commit: CommitId
) -> ChangeRow | None:
    """The change whose current commit this is."""
    row = connection.execute(
        select(changes).where(changes.c.repo_id == repository, changes.c.commit == commit).limit(1)
    ).one_or_none()
    return None if row is None else _row(row)


def by_past_commit(
    connection: Connection, repository: RepositoryId, commit: CommitId
) -> EvolutionRow | None:
    """Where a commit stands in the evolution of a change, current or not."""
    row = connection.execute(
        select(evolution)
        .where(evolution.c.repo_id == repository, evolution.c.commit == commit)
        .limit(1)
    ).one_or_none()
    return None if row is None else _evolution_row(row)


def evolution_of(
    connection: Connection, repository: RepositoryId, change: ChangeId
) -> list[EvolutionRow]:
    """The commits a change has had, oldest first."""
    return [
        _evolution_row(row)
        for row in connection.execute(
            select(evolution)
            .where(evolution.c.repo_id == repository, evolution.c.change_id == change)
            .order_by(evolution.c.sequence)
        )
    ]


def has_children(connection: Connection, repository: RepositoryId, change: ChangeId) -> bool:
    return (
        connection.execute(
            select(change_parents.c.change_id)
            .where(change_parents.c.repo_id == repository, change_parents.c.parent_id == change)
            .limit(1)
        ).first()
        is not None
    )


def any_at_all(connection: Connection, repository: RepositoryId) -> bool:
    """Whether the repository has a change, or is still empty."""
    return (
        connection.execute(
            select(changes.c.change_id).where(changes.c.repo_id == repository).limit(1)
        ).first()
        is not None
    )


def some(
    connection: Connection, repository: RepositoryId, wanted: Iterable[ChangeId]
) -> dict[ChangeId, ChangeRow]:
    """Those of ``wanted`` that exist."""
    ids = list(wanted)
    found: dict[ChangeId, ChangeRow] = {}
    for at in range(0, len(ids), _NAMED_AT_ONCE):
        query = select(changes).where(
            changes.c.repo_id == repository, changes.c.change_id.in_(ids[at : at + _NAMED_AT_ONCE])
        )
        for row in connection.execute(query):
            found[ChangeId(row.change_id)] = _row(row)
    return found


def signature_json(who: Signature) -> dict[str, Any]:
    return {
        "name": who.name,
        "email": who.email,
        "seconds": who.seconds,
        "offset_minutes": who.offset_minutes,
    }


def signature_moment(who: Signature) -> datetime:
    return datetime.fromtimestamp(who.seconds, UTC)


def _state(connection: Connection, row: ChangeRow) -> dict[str, Any]:
    return {
        "commit": row.commit,
        "tree": row.tree,
        "parents": list(row.parents),
        "generation": _generation(connection, row),
        "message": row.message,
        "author": signature_json(row.author),
        "committer": signature_json(row.committer),
        "origin": row.origin,
        "closed": row.closed,
        "conflicted": row.conflicted,
        "updated_ns": row.updated_ns,
    }


def _generation(connection: Connection, row: ChangeRow) -> int:
    highest = connection.execute(
        select(func.max(changes.c.generation)).where(
            changes.c.repo_id == row.repository, changes.c.change_id.in_(row.parents)
        )
    ).scalar_one()
    return 1 + (highest or 0)


def _set_parents(connection: Connection, row: ChangeRow) -> None:
    connection.execute(
        delete(change_parents).where(
            change_parents.c.repo_id == row.repository, change_parents.c.change_id == row.id
        )
    )
    for position, parent in enumerate(row.parents):
        connection.execute(
            change_parents.insert().values(
                repo_id=row.repository, change_id=row.id, position=position, parent_id=parent
            )
        )


def _evolve(connection: Connection, row: ChangeRow, *, operation: int, automatic: bool) -> None:
    last = connection.execute(
        select(func.max(evolution.c.sequence)).where(
            evolution.c.repo_id == row.repository, evolution.c.change_id == row.id
        )
    ).scalar_one()
    connection.execute(
        evolution.insert().values(
            repo_id=row.repository,
            change_id=row.id,
            sequence=0 if last is None else last + 1,
            commit=row.commit,
            tree=row.tree,
            operation=operation,
            automatic=automatic,
            at_ns=row.updated_ns,
        )
    )


def _row(row: Row[Any]) -> ChangeRow:
    return ChangeRow(
        repository=RepositoryId(row.repo_id),
        id=ChangeId(row.change_id),
        commit=CommitId(row.commit),
        tree=TreeId(row.tree),
        parents=tuple(ChangeId(parent) for parent in row.parents),
        message=row.message,
        author=Signature(**row.author),
        committer=Signature(**row.committer),
        origin=row.origin,
        closed=row.closed,
        conflicted=row.conflicted,
        created_ns=row.created_ns,
        updated_ns=row.updated_ns,
        generation=row.generation,
    )


def _evolution_row(row: Row[Any]) -> EvolutionRow:
    return EvolutionRow(
        change=ChangeId(row.change_id),
        sequence=row.sequence,
        commit=CommitId(row.commit),
        tree=TreeId(row.tree),
        operation=row.operation,
        automatic=row.automatic,
        at_ns=row.at_ns,
    )
