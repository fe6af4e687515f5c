"""The port for git objects, and a draft of new ones.

:class:`Objects` is what reading code asks for. A :class:`Draft` gathers the objects that one mutation
makes, in memory, over what is stored. Invariant: nothing of a draft is visible to anybody else until
the store has written it, as one pack, flushed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mesafs.git.objects import (
    blob_id,
    commit_id,
    parse_tree,
    serialise_commit,
    serialise_tree,
    tree_id,
)
from mesafs.git.packs import OBJECT_BLOB, OBJECT_COMMIT, OBJECT_TREE
from mesafs.model.ids import EMPTY_TREE, BlobId, CommitId, TreeId
from mesafs.model.objects import Commit, TreeEntry


class Objects(Protocol):
    """Objects that one repository has. Absent ones raise ``mesafs.git.repository.NoSuchObject``."""

    def tree(self, oid: TreeId, /) -> list[TreeEntry]:
        """Entries in git's order; the empty tree is always there."""
        ...

    def blob(self, oid: BlobId, /) -> bytes: ...

    def blob_size(self, oid: BlobId, /) -> int: ...

    def commit(self, oid: CommitId, /) -> Commit: ...

    def missing(self, ids: Iterable[bytes], /) -> set[bytes]:
        """Which of these ids this repository lacks, asked in one go."""
        ...


class Draft:
    """New objects in memory over ``below``; reads see both."""

    def __init__(self, below: Objects) -> None:
        self._below = below
        self._blobs: dict[BlobId, bytes] = {}
        self._trees: dict[TreeId, tuple[bytes, list[TreeEntry]]] = {}
        self._commits: dict[CommitId, tuple[bytes, Commit]] = {}

    def add_blob(self, content: bytes) -> BlobId:
        new = blob_id(content)
        self._blobs[new] = content
        return new

    def add_tree(self, entries: Iterable[TreeEntry]) -> TreeId:
        """A tree of these entries, in whatever order they come; the caller has checked their names."""
        content = serialise_tree(entries)
        new = tree_id(content)
        if new not in self._trees:
            self._trees[new] = (content, parse_tree(content))
        return new

    def add_commit(self, commit: Commit) -> CommitId:
        content = serialise_commit(commit)
        new = commit_id(content)
        self._commits[new] = (content, commit)
        return new

    def new_objects(self) -> list[tuple[int, bytes, bytes]]:
        """Kind as in a pack, id and content of each, what is referred to before what refers to it."""
        return [
            *((OBJECT_BLOB, oid, content) for oid, content in self._blobs.items()),
            *((OBJECT_TREE, oid, content) for oid, (content, _) in self._trees.items()),
            *((OBJECT_COMMIT, oid, content) for oid, (content, _) in self._commits.items()),
        ]

    def tree(self, oid: TreeId) -> list[TreeEntry]:
        if oid == EMPTY_TREE:
            return []
        found = self._trees.get(oid)
        return self._below.tree(oid) if found is None else list(found[1])

    def blob(self, oid: BlobId) -> bytes:
        found = self._blobs.get(oid)
        return self._below.blob(oid) if found is None else found

    def blob_size(self, oid: BlobId) -> int:
        found = self._blobs.get(oid)
        return self._below.blob_size(oid) if found is None else len(found)

    def commit(self, oid: CommitId) -> Commit:
        found = self._commits.get(oid)
        return self._below.commit(oid) if found is None else found[1]

    def missing(self, ids: Iterable[bytes]) -> set[bytes]:
        mine = (self._blobs.keys() | self._trees.keys() | self._commits.keys()) | {EMPTY_TREE}
        return self._below.missing([oid for oid in ids if oid not in mine])
