"""Where a bookmark of a repository stands, as the sync protocol tells it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from mesafs.model.ids import EMPTY_TREE, ROOT_CHANGE, ROOT_COMMIT, ChangeId, CommitId, TreeId
from mesafs.model.merge import Conflict
from mesafs.server.services.bookmarks import NoSuchBookmark
from mesafs.store import bookmarks, changes, conflicts, operations, organisations
from mesafs.store.changes import ChangeRow
from mesafs.store.repositories import RepositoryRow
from mesafs.wire.sync import RepositoryState

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What a bookmark names now. ``row`` is None at the virtual root change."""

    change: ChangeId
    commit: CommitId
    tree: TreeId
    row: ChangeRow | None
    conflicts: dict[bytes, Conflict]


def standing(connection: Connection, repository: RepositoryRow, bookmark: str) -> Standing:
    """The change that a bookmark names, its current commit and what is in conflict there."""
    found = bookmarks.get(connection, repository.id, bookmark)
    if found is None:
        raise NoSuchBookmark(bookmark)
    if found.change == ROOT_CHANGE:
        return Standing(ROOT_CHANGE, ROOT_COMMIT, EMPTY_TREE, None, {})
    row = changes.get(connection, repository.id, found.change)
    assert row is not None, "a bookmark names a change that is there"
    contested = conflicts.of_commit(connection, repository.id, row.commit) if row.conflicted else {}
    return Standing(row.id, row.commit, row.tree, row, contested)


def state_of(
    connection: Connection, repository: RepositoryRow, bookmark: str | None = None
) -> RepositoryState:
    """The state of a bookmark, of the default one if none is named."""
    name = repository.default_bookmark if bookmark is None else bookmark
    at = standing(connection, repository, name)
    return told(connection, repository, name, at, operation=None)


def told(
    connection: Connection,
    repository: RepositoryRow,
    bookmark: str,
    at: Standing,
    *,
    operation: int | None,
) -> RepositoryState:
    """``at`` as a state; ``operation`` None takes the newest of the repository."""
    return RepositoryState(
        repository=repository.id,
        organisation=repository.organisation_slug,
        name=repository.name,
        bookmark=bookmark,
        change=at.change,
        commit=at.commit,
        tree=at.tree,
        committed_seconds=repository.created_ns // _SECOND
        if at.row is None
        else at.row.committer.seconds,
        operation=operations.latest_number(connection, repository.id)
        if operation is None
        else operation,
        epoch=organisations.fact(connection, "epoch") or "",
        conflicts=tuple(sorted(at.conflicts)),
    )
