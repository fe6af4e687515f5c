"""Bookmarks: movable names for changes. Moving, deleting and merging them comes with the version model."""

from __future__ import annotations

import re
from typing import ClassVar

from sqlalchemy import Connection

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import Conflict, Exhausted, NotFound
from mesafs.model.ids import ROOT_CHANGE, ChangeId
from mesafs.model.names import check_bookmark_name
from mesafs.server.backing import Backing
from mesafs.server.services.projection import Projection
from mesafs.server.services.repositories import find
from mesafs.store import bookmarks, changes, operations
from mesafs.store.bookmarks import BookmarkRow
from mesafs.store.repositories import RepositoryRow

MAX_GLOB_LENGTH = 250
MAX_BOOKMARKS = 100_000
_SCANNED_AT_ONCE = 500


class BookmarkExists(Conflict):
    default_code: ClassVar[str | None] = "ALREADY_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a bookmark {name!r} already", hint="choose another name")


class NoSuchBookmark(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"no bookmark {name[:120]!r}", hint="list the repository's bookmarks")


class NoSuchChange(NotFound):
    def __init__(self, change: ChangeId) -> None:
        super().__init__(f"no change {change} in this repository")


class Bookmarks:
    def __init__(self, backing: Backing, projection: Projection) -> None:
        self._backing = backing
        self._projection = projection

    def list(
        self, principal: Principal, repository: str, *, glob: str | None, after: str, limit: int
    ) -> tuple[RepositoryRow, list[BookmarkRow]]:
        """A page of bookmarks in order of name; ``glob`` knows ``*`` and ``?`` and nothing else."""
        matches = _matcher(glob)
        with self._backing.catalogue.read() as connection:
            row = find(connection, principal, Scope.READ, repository)
            found: list[BookmarkRow] = []
            while len(found) < limit:
                scanned = bookmarks.of_repository(
                    connection, row.id, after=after, limit=_SCANNED_AT_ONCE
                )
                found += [bookmark for bookmark in scanned if matches(bookmark.name)]
                if len(scanned) < _SCANNED_AT_ONCE:
                    break
                after = scanned[-1].name
            return row, found[:limit]

    def get(
        self, principal: Principal, repository: str, name: str
    ) -> tuple[RepositoryRow, BookmarkRow]:
        with self._backing.catalogue.read() as connection:
            row = find(connection, principal, Scope.READ, repository)
            bookmark = bookmarks.get(connection, row.id, name)
            if bookmark is None:
                raise NoSuchBookmark(name)
            return row, bookmark

    def create(
        self, principal: Principal, repository: str, *, name: str, change: ChangeId
    ) -> tuple[RepositoryRow, BookmarkRow]:
        """Name a change. Naming one that is open closes it, so that both names go on in siblings."""
        principal.require(Scope.WRITE)
        check_bookmark_name(name)
        now_ns = self._backing.clock.now_ns()

        def create(connection: Connection) -> tuple[RepositoryRow, BookmarkRow]:
            row = find(connection, principal, Scope.WRITE, repository)
            if change != ROOT_CHANGE and changes.get(connection, row.id, change) is None:
                raise NoSuchChange(change)
            _refuse_taken(connection, row, name)
            if change != ROOT_CHANGE:
                changes.close(connection, row.id, change)
            bookmarks.create(connection, row.id, name, change)
            operations.record(
                connection,
                organisation=row.organisation,
                repository=row.id,
                kind="bookmark.create",
                principal=principal,
                at_ns=now_ns,
                before={"bookmarks": {name: None}},
                after={"bookmarks": {name: change}},
                events=[("bookmark.created", {"bookmark": name, "change": change})],
            )
            return row, BookmarkRow(row.id, name, change)

        row, bookmark = self._backing.catalogue.mutate(create)
        self._projection.project(row.id)
        return row, bookmark


def _refuse_taken(connection: Connection, row: RepositoryRow, name: str) -> None:
    """Refuse a name that exists, or that git could not keep beside one: ``a`` and ``a/b``."""
    if bookmarks.get(connection, row.id, name) is not None:
        raise BookmarkExists(name)
    parts = name.split("/")
    for length in range(1, len(parts)):
        above = "/".join(parts[:length])
        if bookmarks.get(connection, row.id, above) is not None:
            raise BookmarkExists(above)
    below = bookmarks.of_repository(connection, row.id, after=f"{name}/", limit=1)
    if below and below[0].name.startswith(f"{name}/"):
        raise BookmarkExists(below[0].name)
    if bookmarks.count(connection, row.id) >= MAX_BOOKMARKS:
        raise Exhausted(f"a repository holds at most {MAX_BOOKMARKS} bookmarks")


def _matcher(glob: str | None) -> _Glob:
    if glob is not None and len(glob) > MAX_GLOB_LENGTH:
        raise Exhausted(f"glob is longer than {MAX_GLOB_LENGTH} characters")
    return _Glob("*" if glob is None else glob)


class _Glob:
    """Matches in time linear in the name for each run of stars: no backtracking over earlier ones."""

    def __init__(self, glob: str) -> None:
        pieces = re.sub(r"\*+", "*", glob).split("*")
        self._pieces = [
            re.compile(
                "".join("." if char == "?" else re.escape(char) for char in piece), re.DOTALL
            )
            for piece in pieces
        ]
        self._tail_length = len(pieces[-1])

    def __call__(self, name: str) -> bool:
        if len(self._pieces) == 1:
            return self._pieces[0].fullmatch(name) is not None
        first = self._pieces[0].match(name)
        if first is None:
            return False
        at = first.end()
        for piece in self._pieces[1:-1]:
            found = piece.search(name, at)
            if found is None:
                return False
            at = found.end()
        tail = len(name) - self._tail_length
        return tail >= at and self._pieces[-1].fullmatch(name, tail) is not None
