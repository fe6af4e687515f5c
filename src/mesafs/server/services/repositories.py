"""Repositories: made empty with their default bookmark at the root change, deleted into a tombstone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sqlalchemy import Connection

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import Conflict, Denied, NotFound
from mesafs.model.ids import ROOT_CHANGE, ChangeId, RepositoryId, ulid
from mesafs.model.names import check_bookmark_name, check_repository_name
from mesafs.server.backing import Backing
from mesafs.server.services.projection import Projection
from mesafs.server.services.tags import edited
from mesafs.store import bookmarks, operations, repositories
from mesafs.store.repositories import RepositoryRow

DEFAULT_BOOKMARK = "main"


class NoSuchRepository(NotFound):
    """Not there, or not for this caller: the words are the same."""

    def __init__(self) -> None:
        super().__init__("no such repository", hint="`mesa repo list` shows those you can see")


class RepositoryExists(Conflict):
    default_code: ClassVar[str | None] = "ALREADY_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is a repository named {name!r} already",
            hint="names must differ by more than upper and lower case",
        )


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository with the change that its default bookmark is at."""

    row: RepositoryRow
    head: ChangeId


class Repositories:
    def __init__(self, backing: Backing, projection: Projection) -> None:
        self._backing = backing
        self._projection = projection

    def list(
        self,
        principal: Principal,
        *,
        after: str,
        limit: int,
        tags: Sequence[tuple[str, str]] = (),
    ) -> list[Repository]:
        principal.require(Scope.READ)
        with self._backing.catalogue.read() as connection:
            rows = repositories.of_organisation(
                connection,
                principal.organisation,
                only=principal.repositories,
                after=after,
                limit=limit,
                tags=tags,
            )
            return [with_head(connection, row) for row in rows]

    def get(self, principal: Principal, name: str) -> Repository:
        with self._backing.catalogue.read() as connection:
            return with_head(connection, find(connection, principal, Scope.READ, name))

    def create(
        self,
        principal: Principal,
        *,
        name: str | None,
        default_bookmark: str | None,
        tags: Mapping[str, str],
    ) -> Repository:
        """Make an empty repository. Its store is on disk before anything names it."""
        _require_unrestricted(principal)
        backing = self._backing
        now_ns = backing.clock.now_ns()
        repository = RepositoryId(ulid(now_ns, backing.entropy(10)))
        chosen = check_repository_name(repository if name is None else name)
        bookmark = check_bookmark_name(
            DEFAULT_BOOKMARK if default_bookmark is None else default_bookmark,
            field="default_bookmark",
        )
        row = RepositoryRow(
            id=repository,
            organisation=principal.organisation,
            organisation_slug=principal.organisation_slug,
            name=chosen,
            default_bookmark=bookmark,
            tags=edited({}, tags),
            created_ns=now_ns,
        )
        with backing.catalogue.read() as connection:
            _refuse_taken(connection, row)
        backing.objects.create(repository)

        def create(connection: Connection) -> Repository:
            _refuse_taken(connection, row)
            repositories.create(
                connection,
                repository=row.id,
                organisation=row.organisation,
                name=row.name,
                default_bookmark=row.default_bookmark,
                tags=row.tags,
                created_ns=row.created_ns,
            )
            bookmarks.create(connection, row.id, bookmark, ROOT_CHANGE)
            operations.record(
                connection,
                organisation=row.organisation,
                repository=row.id,
                kind="repo.create",
                principal=principal,
                at_ns=now_ns,
                before=None,
                after={"name": row.name, "bookmarks": {bookmark: ROOT_CHANGE}},
                events=[
                    ("repo.created", {"repo": row.id, "name": row.name}),
                    ("bookmark.created", {"bookmark": bookmark, "change": ROOT_CHANGE}),
                ],
            )
            return Repository(row, ROOT_CHANGE)

        made = backing.catalogue.mutate(create)
        self._projection.project(repository)
        return made

    def update(
        self,
        principal: Principal,
        repository: str,
        *,
        name: str | None,
        default_bookmark: str | None,
        tags: Mapping[str, str | None] | None,
    ) -> Repository:
        """Change what is given and keep the rest."""
        principal.require(Scope.WRITE)
        if name is not None:
            check_repository_name(name)
        now_ns = self._backing.clock.now_ns()

        def update(connection: Connection) -> Repository:
            row = find(connection, principal, Scope.WRITE, repository)
            new = replace(
                row,
                name=row.name if name is None else name,
                default_bookmark=row.default_bookmark
                if default_bookmark is None
                else default_bookmark,
                tags=row.tags if tags is None else edited(row.tags, tags),
            )
            _refuse_taken(connection, new)
            if bookmarks.get(connection, row.id, new.default_bookmark) is None:
                raise NotFound(
                    f"there is no bookmark {new.default_bookmark[:120]!r} to be the default",
                    hint="create the bookmark first",
                )
            repositories.change(
                connection,
                row,
                name=new.name,
                default_bookmark=new.default_bookmark,
                tags=new.tags,
                at_ns=now_ns,
            )
            operations.record(
                connection,
                organisation=row.organisation,
                repository=row.id,
                kind="repo.update",
                principal=principal,
                at_ns=now_ns,
                before=_described(row),
                after=_described(new),
                events=[("repo.updated", {"before": _described(row), "after": _described(new)})],
            )
            return with_head(connection, new)

        updated = self._backing.catalogue.mutate(update)
        self._projection.project(updated.row.id)
        return updated

    def delete(self, principal: Principal, name: str) -> None:
        """Leave a tombstone: nothing of it is shown any more, nothing of it is removed yet."""
        _require_unrestricted(principal)
        now_ns = self._backing.clock.now_ns()

        def delete(connection: Connection) -> None:
            row = find(connection, principal, Scope.WRITE, name)
            operations.record(
                connection,
                organisation=row.organisation,
                repository=row.id,
                kind="repo.delete",
                principal=principal,
                at_ns=now_ns,
                before=_described(row),
                after=None,
                events=[("repo.deleted", {"repo": row.id, "name": row.name})],
            )
            repositories.bury(connection, row, at_ns=now_ns)

        self._backing.catalogue.mutate(delete)


def find(connection: Connection, principal: Principal, scope: Scope, name: str) -> RepositoryRow:
    """The repository that this caller knows under ``name``; the first line of what is done to one."""
    row = repositories.by_name(connection, principal.organisation, name)
    if row is None or not principal.sees(row.id):
        raise NoSuchRepository
    principal.require(scope, row.id)
    return row


def find_by_id(
    connection: Connection, principal: Principal, scope: Scope, repository: RepositoryId
) -> RepositoryRow:
    """The same for a caller that keeps to ids, as a mount does."""
    row = repositories.by_id(connection, repository)
    if row is None or row.organisation != principal.organisation or not principal.sees(row.id):
        raise NoSuchRepository
    principal.require(scope, row.id)
    return row


def with_head(connection: Connection, row: RepositoryRow) -> Repository:
    bookmark = bookmarks.get(connection, row.id, row.default_bookmark)
    return Repository(row, ROOT_CHANGE if bookmark is None else bookmark.change)


def _refuse_taken(connection: Connection, wanted: RepositoryRow) -> None:
    there = repositories.by_folded_name(connection, wanted.organisation, wanted.name)
    if there is not None and there.id != wanted.id:
        raise RepositoryExists(wanted.name)


def _described(row: RepositoryRow) -> dict[str, object]:
    return {"name": row.name, "default_bookmark": row.default_bookmark, "tags": row.tags}


def _require_unrestricted(principal: Principal) -> None:
    principal.require(Scope.WRITE)
    if principal.repositories is not None:
        raise Denied(
            "a credential for some repositories may not create or delete repositories",
            hint="use an API key without a restriction to repositories",
        )
