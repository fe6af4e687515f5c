"""Changes: made on another one, listed along a bookmark's ancestry, amended while nothing rests on them.

Objects are made and stored against a stated version of the base; if that moved before the
transaction, they are made again. Nothing is visible of a change that was refused.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sqlalchemy import Connection

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import Conflict as ConflictError
from mesafs.base.errors import Invalid
from mesafs.model.ids import ROOT_CHANGE, ChangeId, CommitId, TreeId
from mesafs.model.merge import Conflict
from mesafs.model.objects import Signature
from mesafs.model.paths import join, to_text
from mesafs.server.backing import Backing
from mesafs.server.services.authorship import Who, check_message, signature
from mesafs.server.services.bookmarks import NoSuchBookmark
from mesafs.server.services.projection import Projection
from mesafs.server.services.repositories import find
from mesafs.server.services.revisions import Revision, revision
from mesafs.server.unsupported import Unsupported
from mesafs.store import bookmarks, changes, conflicts, operations
from mesafs.store.changes import ChangeRow
from mesafs.store.objects import Draft
from mesafs.store.repositories import RepositoryRow
from mesafs.vcs.changes import automatic_signature, commit_for, new_change_id
from mesafs.vcs.trees import FileOperation, apply, changed_paths

MAX_FILES = 10_000
MAX_ATTEMPTS = 5
_SECOND = 1_000_000_000


class Contested(ConflictError):
    """Only resolutions are taken for a conflicted change."""

    default_code: ClassVar[str | None] = "MERGE_CONFLICT"

    def __init__(self, paths: Sequence[bytes]) -> None:
        super().__init__(
            "the change holds conflicts",
            hint="open it in a mount and edit the conflicted files",
        )
        self.details = {"conflict_paths": [to_text(path) for path in paths]}


class StaleBase(ConflictError):
    default_code: ClassVar[str | None] = "STALE_BASE"

    def __init__(self) -> None:
        super().__init__(
            "the change is not at base_commit_oid", hint="read the change and decide again"
        )


class TooManyWriters(ConflictError):
    default_code: ClassVar[str | None] = "LOCK_CONFLICT"

    def __init__(self) -> None:
        super().__init__("others kept changing the same thing", hint="try again")


@dataclass(frozen=True, slots=True)
class Details:
    """A change with the paths it touches and those it holds in conflict."""

    row: ChangeRow
    files: tuple[bytes, ...]
    conflicts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Edits:
    """What a request wants of a change; None keeps what is there."""

    message: str | None = None
    author: Who | None = None
    committer: Who | None = None
    files: Sequence[FileOperation] | None = None


class _Moved(Exception):
    """The base is not any more what the new commit was made on."""


class Changes:
    def __init__(self, backing: Backing, projection: Projection) -> None:
        self._backing = backing
        self._projection = projection

    def list(
        self,
        principal: Principal,
        repository: str,
        *,
        bookmark: str | None,
        frontier: Sequence[ChangeId] | None,
        limit: int,
    ) -> tuple[list[ChangeRow], list[ChangeId]]:
        """Changes that a bookmark reaches, children before parents, and where the next page goes on.

        ``frontier`` is what an earlier page gave; it goes on from there, whatever is new above.
        """
        with self._backing.catalogue.read() as connection:
            row = find(connection, principal, Scope.READ, repository)
            if frontier is None:
                name = row.default_bookmark if bookmark is None else bookmark
                found = bookmarks.get(connection, row.id, name)
                if found is None:
                    raise NoSuchBookmark(name)
                frontier = [found.change]
            return _walk(connection, row, frontier, limit)

    def get(self, principal: Principal, repository: str, change: ChangeId) -> Details:
        with self._backing.catalogue.read() as connection:
            row = find(connection, principal, Scope.READ, repository)
            at = revision(connection, row, change)
            if at.row is None:
                raise Invalid("the root change is virtual: it has no commit and no files")
            first = at.row.parents[0] if at.row.parents else ROOT_CHANGE
            below = revision(connection, row, first)
        store = self._backing.objects.open(row.id)
        touched = tuple(join(path) for path, _, _ in changed_paths(store, below.tree, at.tree))
        return Details(at.row, touched, tuple(sorted(at.conflicts)))

    def create(
        self, principal: Principal, repository: str, *, base: ChangeId, edits: Edits
    ) -> ChangeRow:
        """Make a change on ``base``. The first one of a repository takes its default bookmark along."""
        _check(edits)
        if edits.files is not None and (edits.message is None or edits.author is None):
            raise Invalid("author and message are required when files are given")
        for _ in range(MAX_ATTEMPTS):
            with self._backing.catalogue.read() as connection:
                row = find(connection, principal, Scope.WRITE, repository)
                at = revision(connection, row, base)
            made, contested = self._made(principal, row, at, edits)
            try:
                new = self._backing.catalogue.mutate(
                    lambda connection, at=at, made=made, contested=contested: _create(  # type: ignore[misc] # bound now
                        connection, principal, repository, at, made, contested
                    )
                )
            except _Moved:
                continue
            self._projection.project(row.id)
            return new
        raise TooManyWriters

    def amend(
        self,
        principal: Principal,
        repository: str,
        change: ChangeId,
        *,
        edits: Edits,
        base_commit: CommitId | None,
    ) -> ChangeRow:
        """Give a change another current commit; bookmarks on it follow, for they name the change."""
        _check(edits)
        if change == ROOT_CHANGE:
            raise Invalid("the root change cannot be edited", hint="create a change on it")
        for _ in range(MAX_ATTEMPTS):
            with self._backing.catalogue.read() as connection:
                row = find(connection, principal, Scope.WRITE, repository)
                at = revision(connection, row, change)
                assert at.row is not None, "only the root has no row"
                if base_commit is not None and at.commit != base_commit:
                    raise StaleBase
                if at.conflicts:
                    raise Contested(sorted(at.conflicts))
                if changes.has_children(connection, row.id, change):
                    raise Unsupported("amending a change that others rest on")
                parents = [revision(connection, row, parent) for parent in at.row.parents]
            made = self._amended(principal, row, at.row, parents, edits)
            try:
                new = self._backing.catalogue.mutate(
                    lambda connection, at=at, made=made: _amend(  # type: ignore[misc] # bound now
                        connection, principal, repository, at, made
                    )
                )
            except _Moved:
                continue
            self._projection.project(row.id)
            return new
        raise TooManyWriters

    def _made(
        self, principal: Principal, repository: RepositoryRow, at: Revision, edits: Edits
    ) -> tuple[ChangeRow, dict[bytes, Conflict]]:
        """A new change on ``at``, its objects stored. What it does not edit stays in conflict."""
        now_ns = self._backing.clock.now_ns()
        now = now_ns // _SECOND
        automatic = automatic_signature(principal.key_id, principal.key_name, now)
        author = _or(edits.author, "author", automatic, now)
        committer = _or(edits.committer, "committer", author, now)
        row = ChangeRow(
            repository=repository.id,
            id=new_change_id(self._backing.entropy(16)),
            commit=at.commit,
            tree=at.tree,
            parents=(at.change,),
            message=edits.message or "",
            author=author,
            committer=replace(committer, seconds=now) if edits.committer is None else committer,
            origin="rest",
            closed=False,
            conflicted=False,
            created_ns=now_ns,
            updated_ns=now_ns,
        )
        edited = {join(operation.path) for operation in edits.files or ()}
        contested = {path: term for path, term in at.conflicts.items() if path not in edited}
        return self._stored(row, (at.commit,), edits, contested), contested

    def _amended(
        self,
        principal: Principal,
        repository: RepositoryRow,
        row: ChangeRow,
        parents: Sequence[Revision],
        edits: Edits,
    ) -> ChangeRow:
        now_ns = self._backing.clock.now_ns()
        now = now_ns // _SECOND
        automatic = automatic_signature(principal.key_id, principal.key_name, now)
        new = replace(
            row,
            message=row.message if edits.message is None else edits.message,
            author=_or(edits.author, "author", row.author, now),
            committer=_or(edits.committer, "committer", automatic, now),
            updated_ns=now_ns,
        )
        return self._stored(new, tuple(parent.commit for parent in parents), edits, {})

    def _stored(
        self,
        row: ChangeRow,
        parents: tuple[CommitId, ...],
        edits: Edits,
        contested: Mapping[bytes, Conflict],
    ) -> ChangeRow:
        """``row`` with its new tree and commit, durable before anything names them."""
        store = self._backing.objects.open(row.repository)
        draft = Draft(store)
        tree: TreeId = apply(draft, row.tree, edits.files or ())
        commit = commit_for(
            draft,
            tree=tree,
            parents=parents,
            change=row.id,
            author=row.author,
            committer=row.committer,
            message=row.message,
            conflicts=contested,
        )
        store.write(draft)
        return replace(row, tree=tree, commit=commit, conflicted=bool(contested))


def _check(edits: Edits) -> None:
    if edits.message is not None:
        check_message(edits.message)
    if edits.files is None:
        return
    if not edits.files:
        raise Invalid("files is empty", hint="leave it out for a change without edits")
    if len(edits.files) > MAX_FILES:
        raise Invalid(
            f"files holds more than {MAX_FILES} operations",
            hint="`mesa repo import` and a mount take any number",
        )


def _or(who: Who | None, field: str, otherwise: Signature, now_seconds: int) -> Signature:
    return otherwise if who is None else signature(who, field=field, now_seconds=now_seconds)


def _walk(
    connection: Connection, repository: RepositoryRow, frontier: Sequence[ChangeId], limit: int
) -> tuple[list[ChangeRow], list[ChangeId]]:
    """By falling generation, so that a change comes before its parents and none comes twice."""
    rows: dict[ChangeId, ChangeRow] = {}
    heap: list[tuple[int, ChangeId]] = []

    def reach(ids: Sequence[ChangeId]) -> None:
        wanted = [each for each in ids if each != ROOT_CHANGE and each not in rows]
        for change, row in changes.some(connection, repository.id, wanted).items():
            rows[change] = row
            heapq.heappush(heap, (-row.generation, change))

    reach(frontier)
    page: list[ChangeRow] = []
    while heap and len(page) < limit:
        _, change = heapq.heappop(heap)
        page.append(rows[change])
        reach(rows[change].parents)
    return page, [change for _, change in sorted(heap)]


def _create(
    connection: Connection,
    principal: Principal,
    repository: str,
    at: Revision,
    made: ChangeRow,
    contested: Mapping[bytes, Conflict],
) -> ChangeRow:
    row = find(connection, principal, Scope.WRITE, repository)
    if row.id != made.repository or revision(connection, row, at.change).commit != at.commit:
        raise _Moved
    default = bookmarks.get(connection, row.id, row.default_bookmark)
    moves = (
        default is not None
        and default.change == ROOT_CHANGE
        and not changes.any_at_all(connection, row.id)
    )
    before: dict[str, Any] = {"change": None, "bookmarks": {}}
    after: dict[str, Any] = {"change": made.id, "commit": made.commit.hex(), "bookmarks": {}}
    events: list[operations.NewEvent] = [
        ("change.created", {"change": made.id, "commit": made.commit.hex()})
    ]
    if moves:
        name = row.default_bookmark
        before["bookmarks"], after["bookmarks"] = {name: ROOT_CHANGE}, {name: made.id}
        events.append(
            ("bookmark.moved", {"bookmark": name, "change": made.id, "from": ROOT_CHANGE})
        )
    number = operations.record(
        connection,
        organisation=row.organisation,
        repository=row.id,
        kind="change.create",
        principal=principal,
        at_ns=made.updated_ns,
        before=before,
        after=after,
        events=events,
    )
    changes.insert(connection, made, operation=number, automatic=False)
    conflicts.insert(connection, row.id, made.commit, contested)
    if moves:
        bookmarks.move(connection, row.id, row.default_bookmark, made.id)
    return made


def _amend(
    connection: Connection, principal: Principal, repository: str, at: Revision, made: ChangeRow
) -> ChangeRow:
    row = find(connection, principal, Scope.WRITE, repository)
    if row.id != made.repository:
        raise _Moved
    now = revision(connection, row, at.change)
    if now.commit != at.commit or changes.has_children(connection, row.id, at.change):
        raise _Moved
    number = operations.record(
        connection,
        organisation=row.organisation,
        repository=row.id,
        kind="change.amend",
        principal=principal,
        at_ns=made.updated_ns,
        before={"change": made.id, "commit": at.commit.hex(), "bookmarks": {}},
        after={"change": made.id, "commit": made.commit.hex(), "bookmarks": {}},
        events=[
            (
                "change.evolved",
                {
                    "change": made.id,
                    "commit": made.commit.hex(),
                    "previous_commit": at.commit.hex(),
                },
            )
        ],
    )
    changes.amend(connection, made, operation=number, automatic=False)
    return made
