"""What a change id means in a repository: its row, its content tree, its conflicts."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from mesafs.model.ids import EMPTY_TREE, ROOT_CHANGE, ROOT_COMMIT, ChangeId, CommitId, TreeId
from mesafs.model.merge import Conflict
from mesafs.server.services.bookmarks import NoSuchChange
from mesafs.store import changes, conflicts
from mesafs.store.changes import ChangeRow
from mesafs.store.repositories import RepositoryRow


@dataclass(frozen=True, slots=True)
class Revision:
    """A change at its current commit. ``row`` is None for the virtual root, whose tree is empty."""

    change: ChangeId
    commit: CommitId
    tree: TreeId
    row: ChangeRow | None
    conflicts: dict[bytes, Conflict]


ROOT = Revision(ROOT_CHANGE, ROOT_COMMIT, EMPTY_TREE, None, {})


def revision(connection: Connection, repository: RepositoryRow, change: ChangeId) -> Revision:
    """The revision of a change id, or :class:`NoSuchChange`."""
    if change == ROOT_CHANGE:
        return ROOT
    row = changes.get(connection, repository.id, change)
    if row is None:
        raise NoSuchChange(change)
    return of_row(connection, row)


def of_row(connection: Connection, row: ChangeRow) -> Revision:
    contested = (
        conflicts.of_commit(connection, row.repository, row.commit) if row.conflicted else {}
    )
    return Revision(row.id, row.commit, row.tree, row, contested)
