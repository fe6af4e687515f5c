"""The objects of one repository on the server's disk: a bare git store read through libgit2.

Objects only ever come in as whole packs, and a pack is visible only after its bytes, its index and
the directory have reached the disk. ``refs/`` in here is a projection of the catalogue that
:mod:`mesafs.git.projection` writes. No alternates: what another repository has does not count.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import pygit2

from mesafs.base.errors import NotFound
from mesafs.base.files import Files
from mesafs.git.objects import MalformedObject, parse_commit, parse_tree
from mesafs.git.pack_index import index_of
from mesafs.git.packs import PackWriter
from mesafs.model.ids import EMPTY_TREE, BlobId, CommitId, TreeId
from mesafs.model.objects import Commit, TreeEntry

# Asked of libgit2 once for the process: without it, it never calls fsync.
pygit2.settings.enable_fsync_gitdir(True)  # noqa: FBT003 - its only form
# Every object read is checked by whoever receives it; folders are ours, whoever runs the server.
pygit2.settings.owner_validation = False
# Packs that libgit2 keeps open at once in this process: each takes a file descriptor.
pygit2.settings.mwindow_file_limit = 256

T = TypeVar("T")

_CONFIG = b"""[core]
\trepositoryformatversion = 1
\tbare = true
\tfsync = all
[extensions]
\tpreciousObjects = true
[gc]
\tauto = 0
[receive]
\tautogc = false
[pack]
\twriteReverseIndex = false
[uploadpack]
\tallowFilter = true
\tallowAnySHA1InWant = false
\tallowReachableSHA1InWant = false
\tallowTipSHA1InWant = false
[uploadpackfilter]
\tallow = false
[uploadpackfilter "blob:none"]
\tallow = true
[uploadpackfilter "blob:limit"]
\tallow = true
[uploadpackfilter "tree"]
\tallow = true
"""

#: Entries of parsed trees that one open store keeps, some 200 bytes each.
_CACHED_ENTRIES = 60_000


class NoSuchObject(NotFound):
    """The repository asked does not have the object, whatever others have."""

    def __init__(self, kind: str, oid: bytes) -> None:
        super().__init__(f"this repository has no {kind} {oid.hex()}")
        self.oid = oid


class NewObjects(Protocol):
    """What :meth:`ObjectStore.write` stores: kind as in a pack, id and content of each."""

    def new_objects(self) -> list[tuple[int, bytes, bytes]]: ...


class ObjectStore:
    """Objects of one repository. Safe to use from several threads."""

    def __init__(self, path: Path, files: Files) -> None:
        self.path = path
        self._files = files
        self._odb = pygit2.Odb(str(path / "objects"))
        self._trees: OrderedDict[TreeId, list[TreeEntry]] = OrderedDict()
        self._cached_entries = 0
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, files: Files) -> ObjectStore:
        """Make an empty repository; repeatable, and what a crash left half made is completed."""
        for folder in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "incoming"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        files.write("repository.config", path / "config", _CONFIG)
        if not (path / "HEAD").exists():
            files.write("repository.head", path / "HEAD", b"ref: refs/heads/main\n")
        for made in (path / "objects", path / "refs", path, path.parent):
            files.sync_directory("repository.dirsync", made)
        return cls(path, files)

    def tree(self, oid: TreeId) -> list[TreeEntry]:
        """Entries in git's order. The list is shared: it must not be changed."""
        if oid == EMPTY_TREE:
            return []
        with self._lock:
            found = self._trees.get(oid)
            if found is not None:
                self._trees.move_to_end(oid)
                return found
        entries = parse_tree(self._read(pygit2.enums.ObjectType.TREE, "tree", oid))
        with self._lock:
            if oid not in self._trees:
                self._trees[oid] = entries
                self._cached_entries += len(entries) + 1
            while self._cached_entries > _CACHED_ENTRIES:
                _, dropped = self._trees.popitem(last=False)
                self._cached_entries -= len(dropped) + 1
        return entries

    def blob(self, oid: BlobId) -> bytes:
        return self._read(pygit2.enums.ObjectType.BLOB, "blob", oid)

    def blob_size(self, oid: BlobId) -> int:
        """Size without reading the content."""
        return self.size_of("blob", pygit2.enums.ObjectType.BLOB, oid)

    def commit(self, oid: CommitId) -> Commit:
        return parse_commit(self._read(pygit2.enums.ObjectType.COMMIT, "commit", oid))

    def has_tree(self, oid: TreeId) -> bool:
        """Whether this id is here and is a tree."""
        try:
            self.size_of("tree", pygit2.enums.ObjectType.TREE, oid)
        except NoSuchObject:
            return oid == EMPTY_TREE
        return True

    def missing(self, ids: Iterable[bytes]) -> set[bytes]:
        return {
            oid for oid in set(ids) if oid != EMPTY_TREE and pygit2.Oid(raw=oid) not in self._odb
        }

    def reopen(self) -> None:
        """Look at the packs anew, after some were replaced. Reads that are under way are not disturbed."""
        self._odb = pygit2.Odb(str(self.path / "objects"))

    def size_of(self, kind: str, wanted: pygit2.enums.ObjectType, oid: bytes) -> int:
        try:
            found, size = self._again_if_replaced(lambda odb: odb.read_header(pygit2.Oid(raw=oid)))
        except KeyError:
            raise NoSuchObject(kind, oid) from None
        if found != wanted:
            raise NoSuchObject(kind, oid)
        return int(size)

    def write(self, draft: NewObjects) -> str | None:
        """Store new objects as one pack and return its name; None when there was nothing to store.

        When it returns the objects would survive a power cut.
        """
        objects = draft.new_objects()
        if not objects:
            return None
        with Quarantine(self.path) as folder:
            staged = folder / "staged.pack"
            self._files.reached("pack.stage")
            with staged.open("w+b") as file:
                writer = PackWriter(file)
                for kind, oid, content in objects:
                    writer.add(kind, oid, content)
                checksum = writer.finish()
                self._files.sync("pack.sync", file.fileno())
            index = index_of(writer.records, checksum)
            self._files.write("pack.sync", folder / "staged.idx", index, mode=0o444)
            name = checksum.hex()
            self.take_in(staged, folder / "staged.idx", name)
        return name

    def take_in(self, pack: Path, index: Path, name: str) -> None:
        """Move a flushed pack and its index into place: the pack first, for the index makes it visible."""
        target = self.path / "objects" / "pack"
        self._files.rename("pack.rename", pack, target / f"pack-{name}.pack")
        self._files.rename("pack.rename", index, target / f"pack-{name}.idx")
        self._files.sync_directory("pack.dirsync", target)

    def _read(self, wanted: pygit2.enums.ObjectType, kind: str, oid: bytes) -> bytes:
        try:
            found, content = self._again_if_replaced(lambda odb: odb.read(pygit2.Oid(raw=oid)))
        except KeyError:
            raise NoSuchObject(kind, oid) from None
        except pygit2.GitError as error:
            raise MalformedObject(f"{kind} {oid.hex()} cannot be read: {error}") from None
        if found != wanted:
            raise NoSuchObject(kind, oid)
        return bytes(content)

    def _again_if_replaced(self, read: Callable[[pygit2.Odb], tuple[int, T]]) -> tuple[int, T]:
        """A pack that was replaced may be gone from under an open handle: look once more."""
        try:
            return read(self._odb)
        except KeyError:
            raise  # libgit2 has looked for new packs itself
        except pygit2.GitError:
            self.reopen()
            return read(self._odb)


class Quarantine:
    """A folder on the repository's own disk where a pack is made or checked; gone afterwards."""

    def __init__(self, repository: Path) -> None:
        self._folder: Path = repository / "incoming" / secrets.token_hex(8)

    def __enter__(self) -> Path:
        self._folder.mkdir(parents=True, mode=0o700)
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def clear_staged(repository: Path) -> None:
    """Remove what a crash left in quarantine or half repacked; nothing of it was ever visible."""
    for pattern in (".tmp-*", "tmp_*"):
        for staged in (repository / "objects" / "pack").glob(pattern):
            staged.unlink(missing_ok=True)
    with os.scandir(repository / "incoming") as entries:
        for entry in entries:
            shutil.rmtree(entry.path, ignore_errors=True)
