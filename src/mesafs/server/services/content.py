"""Content of a repository at a change: files, links and directories, as the content tree has them.

A link is text: nothing here ever follows one. A conflicted file is shown with markers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import Exhausted, NotFound
from mesafs.git.objects import blob_id
from mesafs.model.ids import BlobId, ChangeId, TreeId
from mesafs.model.objects import MODE_GITLINK, TreeEntry
from mesafs.model.paths import RepoPath, join, to_text
from mesafs.server.backing import Backing
from mesafs.server.services.repositories import find, with_head
from mesafs.server.services.revisions import Revision, revision
from mesafs.store.objects import Objects
from mesafs.vcs.conflicts import render
from mesafs.vcs.trees import lookup, walk

MAX_DEPTH = 10
MAX_ENTRIES = 50_000


class NoSuchPath(NotFound):
    def __init__(self, path: RepoPath) -> None:
        super().__init__(f"no {to_text(join(path))[:200]!r} at this change")


@dataclass(frozen=True, slots=True)
class File:
    """A file or symbolic link with its bytes."""

    path: RepoPath
    mode: int
    id: BlobId
    content: bytes
    conflicted: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of a listing; a directory has no size."""

    path: RepoPath
    entry: TreeEntry
    size: int | None


@dataclass(frozen=True, slots=True)
class Directory:
    path: RepoPath
    id: TreeId
    child_count: int
    entries: tuple[Listed, ...]


class Contents:
    def __init__(self, backing: Backing) -> None:
        self._backing = backing

    def get(
        self,
        principal: Principal,
        repository: str,
        *,
        change: ChangeId | None,
        path: RepoPath,
        depth: int,
    ) -> File | Directory:
        """What is at ``path``; a directory with its entries down to ``depth`` levels, flat."""
        with self._backing.catalogue.read() as connection:
            row = find(connection, principal, Scope.READ, repository)
            wanted = with_head(connection, row).head if change is None else change
            at = revision(connection, row, wanted)
        store = self._backing.objects.open(row.id)
        entry = lookup(store, at.tree, path)
        if entry is None or entry.mode == MODE_GITLINK:
            raise NoSuchPath(path)
        if entry.is_tree:
            return _directory(store, path, TreeId(entry.id), depth)
        return _file(store, at, path, entry)


def _file(store: Objects, at: Revision, path: RepoPath, entry: TreeEntry) -> File:
    conflict = at.conflicts.get(join(path))
    if conflict is None:
        blob = BlobId(entry.id)
        return File(path, entry.mode, blob, store.blob(blob), conflicted=False)
    text = render(store, conflict)
    return File(path, entry.mode, blob_id(text), text, conflicted=True)


def _directory(store: Objects, path: RepoPath, tree: TreeId, depth: int) -> Directory:
    entries: list[Listed] = []
    for listed in _listed(store, path, tree, depth):
        if len(entries) >= MAX_ENTRIES:
            raise Exhausted(
                f"there are more than {MAX_ENTRIES} entries",
                hint="ask for a smaller depth, or list the directories one by one",
            )
        entries.append(listed)
    return Directory(path, tree, len(store.tree(tree)), tuple(entries))


def _listed(store: Objects, path: RepoPath, tree: TreeId, depth: int) -> Iterator[Listed]:
    for below, entry in walk(store, tree, depth):
        no_size = entry.is_tree or entry.mode == MODE_GITLINK
        size = None if no_size else store.blob_size(BlobId(entry.id))
        yield Listed((*path, *below), entry, size)
