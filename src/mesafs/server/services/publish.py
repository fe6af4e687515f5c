"""Publishing a snapshot: the one way in which edits of a mount become a change's new commit.

If the bookmark has not moved since the snapshot's base, the change is amended, or a child opened
(architecture, section 5). Otherwise what was sent is merged into what the bookmark names now. Merges
are computed outside the transaction against a stated version; if that moved meanwhile, again.

Guarantees: a publish id is carried out once and its first answer given for ever after. Objects are
on disk before the transaction that names them. An edit is never lost: what cannot be merged is a
recorded conflict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sqlalchemy import Connection

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import Conflict as ConflictError
from mesafs.base.errors import Invalid, Unavailable
from mesafs.git.receiving import MissingObjects
from mesafs.git.repository import ObjectStore
from mesafs.model.ids import (
    EMPTY_TREE,
    ROOT_COMMIT,
    BlobId,
    ChangeId,
    CommitId,
    RepositoryId,
    TreeId,
)
from mesafs.model.merge import Conflict, Term, resolved, shown
from mesafs.model.objects import MODE_EXECUTABLE, MODE_FILE, Signature
from mesafs.model.paths import MAX_PATH_BYTES, IllegalName, RepoPath
from mesafs.server.backing import Backing
from mesafs.server.services.maintenance import Maintenance
from mesafs.server.services.principals import KeyRefused
from mesafs.server.services.projection import Projection
from mesafs.server.services.repositories import NoSuchRepository, find_by_id
from mesafs.server.services.states import Standing, standing, told
from mesafs.store import bookmarks, changes, conflicts, keys, operations, repositories
from mesafs.store.changes import ChangeRow
from mesafs.store.objects import Draft
from mesafs.store.operations import NewEvent
from mesafs.store.repositories import RepositoryRow
from mesafs.vcs.changes import (
    EXTEND_WITHIN_NS,
    ChangeFacts,
    automatic_signature,
    commit_for,
    may_amend,
    new_change_id,
)
from mesafs.vcs.conflicts import parse
from mesafs.vcs.merge import Merged, merge
from mesafs.vcs.trees import changed_paths, edit, lookup, term_of
from mesafs.wire.sync import PublishAnswer, PublishRequest

KIND = "publish"
#: Each further attempt means that another writer was first; so many in a row is a fight.
MAX_ATTEMPTS = 50
MAX_MISSING_NAMED = 1000
_SECOND = 1_000_000_000


class UnknownBase(ConflictError):
    default_code: ClassVar[str | None] = "UNKNOWN_BASE"

    def __init__(self, commit: CommitId) -> None:
        super().__init__(
            f"this repository has never had the commit {commit.hex()}",
            hint="the server may have been restored; resolve the repository again",
        )


class TooManyWriters(Unavailable):
    def __init__(self) -> None:
        super().__init__("others kept moving this bookmark", hint="publish again")


class _Moved(Exception):
    """The bookmark or its change is not any more what the merge was computed against."""


@dataclass(frozen=True, slots=True)
class _Base:
    """What the sent tree rests on."""

    tree: TreeId
    conflicts: Mapping[bytes, Conflict]


@dataclass(frozen=True, slots=True)
class _View:
    """Everything that is read before computing, at one moment."""

    repository: RepositoryRow
    at: Standing
    base: _Base
    facts: ChangeFacts | None
    parents: tuple[CommitId, ...]
    first: bool


class Publisher:
    def __init__(self, backing: Backing, projection: Projection, maintenance: Maintenance) -> None:
        self._backing = backing
        self._projection = projection
        self._maintenance = maintenance

    def publish(
        self,
        principal: Principal,
        repository: RepositoryId,
        request: PublishRequest,
        *,
        origin: str = "mount",
    ) -> PublishAnswer:
        """Carry out a publish, or give its first answer again."""
        principal.require(Scope.WRITE, repository)
        _check(request)
        store: ObjectStore | None = None
        for _ in range(MAX_ATTEMPTS):
            known, view = self._look(principal, repository, request)
            if known is not None:
                return PublishAnswer.from_json(known)
            assert view is not None, "there is an answer or a view"
            if store is None:
                store = self._backing.objects.open(repository)
                _check_connected(store, view.base.tree, request.tree)
            try:
                answer = self._attempt(principal, view, store, request, origin)
            except _Moved:
                continue
            self._projection.project(repository)
            self._maintenance.wrote(repository)
            return answer
        raise TooManyWriters

    def _look(
        self, principal: Principal, repository: RepositoryId, request: PublishRequest
    ) -> tuple[Any | None, _View | None]:
        with self._backing.catalogue.read() as connection:
            row = find_by_id(connection, principal, Scope.WRITE, repository)
            known = operations.publish_answer(connection, row.id, request.publish_id)
            if known is not None:
                return known, None
            at = standing(connection, row, request.bookmark)
            facts: ChangeFacts | None = None
            parents: tuple[CommitId, ...] = ()
            if at.row is not None:
                facts = _facts(connection, row, at.row)
                rows = changes.some(connection, row.id, at.row.parents)
                parents = tuple(rows[parent].commit for parent in at.row.parents if parent in rows)
            first = not changes.any_at_all(connection, row.id)
            return None, _View(
                row, at, self._base(connection, row, at, request), facts, parents, first
            )

    def _base(
        self,
        connection: Connection,
        row: RepositoryRow,
        at: Standing,
        request: PublishRequest,
    ) -> _Base:
        commit = request.base_commit
        if commit == at.commit:
            tree, contested = at.tree, at.conflicts
        elif commit == ROOT_COMMIT:
            tree, contested = EMPTY_TREE, {}
        else:
            past = changes.by_past_commit(connection, row.id, commit)
            if past is None:
                raise UnknownBase(commit)
            tree, contested = past.tree, conflicts.of_commit(connection, row.id, commit)
        return _Base(tree if request.base_tree is None else request.base_tree, contested)

    def _attempt(
        self,
        principal: Principal,
        view: _View,
        store: ObjectStore,
        request: PublishRequest,
        origin: str,
    ) -> PublishAnswer:
        draft = Draft(store)
        view = replace(view, base=_seen(draft, view.base))
        sent = _as_meant(draft, view.base, request)
        at = view.at
        if request.base_commit == at.commit and view.base.tree == at.tree:
            outcome = sent
        else:
            outcome = merge(
                draft,
                view.base.tree,
                at.tree,
                sent.tree,
                base_conflicts=view.base.conflicts,
                our_conflicts=at.conflicts,
                their_conflicts=sent.conflicts,
            )
        now_ns = self._backing.clock.now_ns()
        if outcome.tree == at.tree and outcome.conflicts == at.conflicts:
            new = None
        else:
            new = self._new_row(principal, view, draft, outcome, request, origin, now_ns)
            store.write(draft)
        return self._backing.catalogue.mutate(
            lambda connection: _commit(connection, principal, view, new, outcome, request, now_ns)
        )

    def _new_row(
        self,
        principal: Principal,
        view: _View,
        draft: Draft,
        outcome: Merged,
        request: PublishRequest,
        origin: str,
        now_ns: int,
    ) -> ChangeRow:
        """The change as it will be: the current one amended, or a child of it."""
        at = view.at
        committer = automatic_signature(principal.key_id, principal.key_name, now_ns // _SECOND)
        if at.row is not None and view.facts is not None and may_amend(view.facts):
            row = replace(at.row, committer=committer)
            parents = view.parents
        else:
            row = _opened(
                view, new_change_id(self._backing.entropy(16)), committer, request, origin, now_ns
            )
            parents = (at.commit,)
        commit = commit_for(
            draft,
            tree=outcome.tree,
            parents=parents,
            change=row.id,
            author=row.author,
            committer=committer,
            message=row.message,
            conflicts=outcome.conflicts,
        )
        return replace(
            row,
            commit=commit,
            tree=outcome.tree,
            conflicted=bool(outcome.conflicts),
            updated_ns=now_ns,
        )


def _opened(
    view: _View,
    change: ChangeId,
    who: Signature,
    request: PublishRequest,
    origin: str,
    now_ns: int,
) -> ChangeRow:
    return ChangeRow(
        repository=view.repository.id,
        id=change,
        commit=ROOT_COMMIT,
        tree=EMPTY_TREE,
        parents=(view.at.change,),
        message=request.message or "",
        author=who,
        committer=who,
        origin="import" if request.message is not None and origin == "mount" else origin,
        closed=False,
        conflicted=False,
        created_ns=now_ns,
        updated_ns=now_ns,
    )


def _check(request: PublishRequest) -> None:
    for name, value in (("publish_id", request.publish_id), ("checkout_id", request.checkout_id)):
        if not 1 <= len(value) <= 128 or not value.isascii() or not value.isprintable():
            raise Invalid(f"{name} must be 1 to 128 printable ASCII characters")


def _check_connected(store: ObjectStore, base: TreeId, sent: TreeId) -> None:
    """Refuse a tree whose objects are not here, or whose paths are longer than a mount can open."""
    missing: set[bytes] = {tree for tree in (base, sent) if not store.has_tree(tree)}
    if missing:
        raise MissingObjects(missing)
    wanted: set[bytes] = set()
    for path, _, new in changed_paths(store, base, sent):
        if new is not None:
            wanted.add(new.id)
            if sum(map(len, path)) + len(path) - 1 > MAX_PATH_BYTES:
                raise IllegalName(path[-1], f"its path is longer than {MAX_PATH_BYTES} bytes")
    missing = store.missing(wanted)
    if missing:
        raise MissingObjects(sorted(missing)[:MAX_MISSING_NAMED])


def _seen(draft: Draft, base: _Base) -> _Base:
    """The base without conflicts that its tree does not show.

    A checkout that was editing a path when it became conflicted has never seen the other side; its
    merge base says so, by holding another entry there. Its edit is then one more side, no resolution.
    """
    shown_there = {
        path: conflict
        for path, conflict in base.conflicts.items()
        if term_of(lookup(draft, base.tree, tuple(path.split(b"/")))) == shown(conflict)
    }
    return replace(base, conflicts=shown_there)


def _as_meant(draft: Draft, base: _Base, request: PublishRequest) -> Merged:
    """The sent tree with edited conflict texts read as what they mean.

    A conflicted path that was touched, or that stands differently in the sent tree, means what its
    text says; every other one is still the conflict it was.
    """
    if not base.conflicts:
        return Merged(request.tree)
    touched = set(request.touched_conflicts)
    standing_conflicts: dict[bytes, Conflict] = {}
    edits: dict[RepoPath, Term | None] = {}
    for path, conflict in base.conflicts.items():
        parts = tuple(path.split(b"/"))
        there = lookup(draft, request.tree, parts)
        value = conflict
        if path in touched or term_of(there) != shown(conflict):
            value = _read_edited(draft, conflict, term_of(there))
        if not value.is_resolved:
            standing_conflicts[path] = value
        if there is None or not there.is_tree:
            edits[parts] = shown(value)
    return Merged(edit(draft, request.tree, edits), standing_conflicts)


def _read_edited(draft: Draft, conflict: Conflict, sent: Term | None) -> Conflict:
    if sent is None or not sent.is_file:
        return resolved(sent)
    value = parse(draft, draft.blob(BlobId(sent.id)), conflict)
    before = shown(conflict)
    if before is not None and before.mode == sent.mode:
        return value
    return Conflict(
        tuple(
            Term(sent.mode, term.id)
            if term is not None and term.mode in {MODE_FILE, MODE_EXECUTABLE}
            else term
            for term in value.adds
        ),
        value.removes,
    )


def _facts(connection: Connection, repository: RepositoryRow, row: ChangeRow) -> ChangeFacts:
    return ChangeFacts(
        origin=row.origin,
        closed=row.closed,
        has_children=changes.has_children(connection, repository.id, row.id),
        parents=len(row.parents),
        bookmarks=len(bookmarks.naming(connection, repository.id, row.id)),
    )


def _commit(
    connection: Connection,
    principal: Principal,
    view: _View,
    new: ChangeRow | None,
    outcome: Merged,
    request: PublishRequest,
    now_ns: int,
) -> PublishAnswer:
    """The transaction. Raises :class:`_Moved` when the view it was computed from is not the present."""
    row = _still_allowed(connection, principal, view.repository, now_ns)
    known = operations.publish_answer(connection, row.id, request.publish_id)
    if known is not None:
        return PublishAnswer.from_json(known)
    now = standing(connection, row, request.bookmark)
    facts = None if now.row is None else _facts(connection, row, now.row)
    if (now.change, now.commit, facts) != (view.at.change, view.at.commit, view.facts):
        raise _Moved
    moved = _moves(connection, row, view, new, request)
    number = _record(connection, principal, row, view, new, moved, request, now_ns)
    if new is not None:
        if new.id == view.at.change:
            changes.amend(connection, new, operation=number, automatic=True)
        else:
            changes.insert(connection, new, operation=number, automatic=True)
        conflicts.insert(connection, row.id, new.commit, outcome.conflicts)
        for name in moved:
            bookmarks.move(connection, row.id, name, new.id)
    at = Standing(
        view.at.change if new is None else new.id,
        view.at.commit if new is None else new.commit,
        outcome.tree,
        view.at.row if new is None else new,
        dict(outcome.conflicts),
    )
    answer = PublishAnswer(
        request.publish_id,
        told(connection, row, request.bookmark, at, operation=number),
        tuple(sorted(path for path in outcome.conflicts if path not in view.at.conflicts)),
    )
    operations.set_publish_answer(connection, row.id, request.publish_id, answer.to_json())
    return answer


def _still_allowed(
    connection: Connection, principal: Principal, repository: RepositoryRow, now_ns: int
) -> RepositoryRow:
    """Nothing is committed for a key that was revoked or narrowed while the merge was computed."""
    key = keys.by_id(connection, principal.key_id)
    if key is None or not key.usable(now_ns):
        raise KeyRefused
    row = repositories.by_id(connection, repository.id)
    if row is None or (key.repositories is not None and row.id not in key.repositories):
        raise NoSuchRepository
    if Scope.WRITE not in key.scopes:
        replace(principal, scopes=key.scopes).require(Scope.WRITE)
    return row


def _moves(
    connection: Connection,
    row: RepositoryRow,
    view: _View,
    new: ChangeRow | None,
    request: PublishRequest,
) -> dict[str, ChangeId]:
    """Bookmarks that will name the new change, with what they name now."""
    if new is None or new.id == view.at.change:
        return {}
    moved = {request.bookmark: view.at.change}
    default = bookmarks.get(connection, row.id, row.default_bookmark)
    if view.first and default is not None and default.change == view.at.change:
        moved[default.name] = default.change  # the first content of a repository is its default
    return moved


def _record(
    connection: Connection,
    principal: Principal,
    row: RepositoryRow,
    view: _View,
    new: ChangeRow | None,
    moved: Mapping[str, ChangeId],
    request: PublishRequest,
    now_ns: int,
) -> int:
    at = view.at
    before = _described(at.change, at.commit, dict.fromkeys(moved, at.change))
    after = before if new is None else _described(new.id, new.commit, dict.fromkeys(moved, new.id))
    events = _events(at, new, moved)
    latest = operations.latest(connection, row.id)
    if (
        latest is not None
        and latest.kind == KIND
        and latest.checkout == request.checkout_id
        and latest.key_id == principal.key_id
        and now_ns - latest.updated_ns < EXTEND_WITHIN_NS
        and latest.after["change"] == after["change"]
        and latest.after["commit"] == at.commit.hex()
    ):
        return operations.extend(
            connection,
            organisation=row.organisation,
            repository=row.id,
            number=latest.number,
            at_ns=now_ns,
            after={**after, "bookmarks": latest.after["bookmarks"]},
            events=events,
            checkout_id=request.checkout_id,
            publish_id=request.publish_id,
            answer={},
        )
    return operations.record(
        connection,
        organisation=row.organisation,
        repository=row.id,
        kind=KIND,
        principal=principal,
        at_ns=now_ns,
        before=before,
        after=after,
        events=events,
        checkout_id=request.checkout_id,
        publish_id=request.publish_id,
        answer={},
    )


def _described(change: ChangeId, commit: CommitId, named: Mapping[str, ChangeId]) -> dict[str, Any]:
    return {"change": change, "commit": commit.hex(), "bookmarks": dict(named)}


def _events(at: Standing, new: ChangeRow | None, moved: Mapping[str, ChangeId]) -> list[NewEvent]:
    if new is None:
        return []
    if new.id == at.change:
        return [
            (
                "change.evolved",
                {
                    "change": new.id,
                    "commit": new.commit.hex(),
                    "previous_commit": at.commit.hex(),
                },
            )
        ]
    return [
        ("change.created", {"change": new.id, "commit": new.commit.hex()}),
        *(
            ("bookmark.moved", {"bookmark": name, "change": new.id, "from": was})
            for name, was in moved.items()
        ),
    ]
