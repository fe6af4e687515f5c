"""Objects on this machine's disk, addressed by content.

Blobs are files of raw bytes under ``blobs/``, so that the kernel can read them without us; the least
recently used go when the limit is passed. Trees, with the sizes that the server told, are files in the
form of the sync protocol's frames under ``trees/``; they are small, and stay, because a journal can
only be replayed over the trees it was written on.

Invariant: nothing enters without its hash having been checked, and a blob is checked again the first
time it is opened after it, or its file, changed (a disk can flip a bit; somebody can edit the file).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha1
from typing import BinaryIO

from mesafs.base.errors import Corrupt
from mesafs.base.files import Files
from mesafs.git.objects import blob_id, object_id, serialise_tree
from mesafs.model.ids import EMPTY_TREE, BlobId, TreeId
from mesafs.model.objects import MODE_EXECUTABLE, MODE_FILE, MODE_GITLINK, MODE_SYMLINK, MODE_TREE
from mesafs.model.paths import objection
from mesafs.wire.sync import ListedEntry, decode_trees, encode_tree

_COPY_BYTES = 1 << 20
_KNOWN_MODES = {MODE_TREE, MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK, MODE_GITLINK, 0o100664}
_MAX_SIZE = 1 << 53
#: While the disk is full, blobs up to this size are held in memory, so many bytes of them.
_HELD_BLOB_BYTES = 1 << 20
_HELD_BYTES = 16 << 20


class UntrustedObject(Corrupt):
    """The server, or the disk, gave bytes that are not the object asked for."""


class ObjectCache:
    """Verified objects below one folder. Opening and storing are safe from several threads."""

    def __init__(self, folder: str, *, limit_bytes: int, files: Files) -> None:
        self._blobs = os.path.join(folder, "blobs")
        self._trees = os.path.join(folder, "trees")
        self._files = files
        self._limit_bytes = limit_bytes
        #: Blob id to size, least recently used first.
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self._total_bytes = 0
        #: Blob id to (inode, size, mtime, ctime) of the file when its hash was last checked.
        self._verified: dict[bytes, tuple[int, int, int, int]] = {}
        self._held: dict[bytes, bytes] = {}
        self._held_trees: dict[TreeId, list[ListedEntry]] = {}
        self._serial = itertools.count(1)
        self._lock = (
            threading.Lock()
        )  # guards the three tables above; never held over a read or write
        for place in (self._blobs, self._trees):
            os.makedirs(place, mode=0o700, exist_ok=True)
        self._scan()

    # -- blobs ----------------------------------------------------------------------------------

    def open_blob(self, blob: BlobId) -> int | None:
        """A read-only descriptor on a verified blob, or None if it is not here (or was damaged)."""
        if self._held and (held := self._held.get(blob)) is not None:
            return _in_memory(held)
        path = self._blob_path(blob)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._forget(blob)
            return None
        try:
            st = os.fstat(fd)
            signature = (st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
            if self._verified.get(blob) != signature:
                if _hash_fd(fd, st.st_size) != blob:
                    self._files.unlink("cache.drop", path)
                    self._forget(blob)
                    os.close(fd)
                    return None
                self._verified[blob] = signature
        except BaseException:
            os.close(fd)
            raise
        self._touch(blob, st.st_size)
        return fd

    def has_blob(self, blob: BlobId) -> bool:
        return blob in self._sizes

    def store_blob(self, blob: BlobId, size: int, content: BinaryIO) -> None:
        """Take a blob from a stream of ``size`` bytes; only a verified one is kept.

        A stream that ends early, or does not hash to ``blob``, raises UntrustedObject and stores
        nothing. No space left raises OSError, after everything else in the cache was given up.
        """
        if size <= _HELD_BLOB_BYTES:
            self._store_small(blob, size, content)
            return
        digest = sha1(b"blob %d\0" % size, usedforsecurity=False)
        staged = self._staged_path()
        try:
            self._make_room(size)
            fd = self._create(staged)
            try:
                left = size
                while left:
                    chunk = content.read(min(left, _COPY_BYTES))
                    if not chunk:
                        raise UntrustedObject(
                            f"blob {blob.hex()} ended {left} bytes before its stated {size}"
                        )
                    digest.update(chunk)
                    left -= len(chunk)
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            if digest.digest() != blob:
                raise UntrustedObject(f"the bytes sent as blob {blob.hex()} do not hash to it")
            self._enter(blob, staged, size)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staged)
            raise

    def _store_small(self, blob: BlobId, size: int, content: BinaryIO) -> None:
        """Store a small blob; on a full disk hold it in memory, for reading has to go on there."""
        data = bytearray()
        while len(data) < size and (chunk := content.read(size - len(data))):
            data += chunk
        if len(data) < size:
            raise UntrustedObject(
                f"blob {blob.hex()} ended {size - len(data)} bytes before its stated {size}"
            )
        if blob_id(memoryview(data)) != blob:
            raise UntrustedObject(f"the bytes sent as blob {blob.hex()} do not hash to it")
        self._make_room(size)
        for attempt in (1, 2):
            staged = self._staged_path()
            try:
                fd = self._create(staged)
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(fd, view) :]
                finally:
                    os.close(fd)
                self._enter(blob, staged, size)
                return
            except OSError as error:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(staged)
                if error.errno != errno.ENOSPC:
                    raise
                if attempt == 1:
                    self.give_up()
        with self._lock:
            self._held[blob] = bytes(data)
            while sum(map(len, self._held.values())) > _HELD_BYTES:
                del self._held[next(iter(self._held))]

    def adopt_blob(self, blob: BlobId, path: str, size: int) -> None:
        """Take over a finished file whose hash the caller has just computed."""
        self._enter(blob, path, size)
        self._make_room(0)

    def _enter(self, blob: BlobId, staged: str, size: int) -> None:
        target = self._blob_path(blob)
        try:
            self._files.rename("cache.publish", staged, target)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            self._files.rename("cache.publish", staged, target)
        st = os.stat(target)
        self._verified[blob] = (st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
        self._touch(blob, size)

    def _create(self, path: str) -> int:
        self._files.reached("cache.stage")
        return os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )

    # -- trees ----------------------------------------------------------------------------------

    def tree(self, tree: TreeId) -> list[ListedEntry] | None:
        """The entries of a tree, or None if it is not here."""
        if tree == EMPTY_TREE:
            return []
        if self._held_trees and (held := self._held_trees.get(tree)) is not None:
            return held
        try:
            with open(self._tree_path(tree), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return None
        try:
            ((found, entries),) = decode_trees(data)
            check_tree(tree, found, entries)
        except (Corrupt, ValueError):
            # Damaged on this disk: as if it were not here. The server has it.
            self._files.unlink("cache.drop", self._tree_path(tree))
            return None
        return entries

    def has_tree(self, tree: TreeId) -> bool:
        return tree == EMPTY_TREE or os.path.exists(self._tree_path(tree))

    def store_tree(self, tree: TreeId, entries: list[ListedEntry]) -> None:
        """Keep a tree that the caller has checked or made."""
        data = encode_tree(tree, entries)
        try:
            self._stage_tree(tree, data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            try:
                self.give_up()
                self._stage_tree(tree, data)
            except OSError:
                self._held_trees[tree] = entries  # small, and needed to show anything at all

    def _stage_tree(self, tree: TreeId, data: bytes) -> None:
        target = self._tree_path(tree)
        staged = self._staged_path()
        fd = self._create(staged)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            try:
                self._files.rename("cache.publish", staged, target)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
                self._files.rename("cache.publish", staged, target)
        except BaseException:
            os.unlink(staged)
            raise
        finally:
            os.close(fd)

    def store_trees(
        self, wanted: set[TreeId], answer: Iterable[tuple[TreeId, list[ListedEntry]]]
    ) -> dict[TreeId, list[ListedEntry]]:
        """Check and keep what a server sent; only trees reachable from ``wanted`` within the answer enter."""
        allowed = set(wanted)
        kept: dict[TreeId, list[ListedEntry]] = {}
        for tree, entries in answer:
            if tree not in allowed or tree in kept:
                continue
            check_tree(tree, tree, entries)
            kept[tree] = entries
            allowed.update(TreeId(entry.id) for entry in entries if entry.mode == MODE_TREE)
            self.store_tree(tree, entries)
        return kept

    # -- bounds ---------------------------------------------------------------------------------

    @property
    def blob_bytes(self) -> int:
        return self._total_bytes

    def _touch(self, blob: bytes, size: int) -> None:
        with self._lock:
            if blob in self._sizes:
                self._sizes.move_to_end(blob)
            else:
                self._sizes[blob] = size
                self._total_bytes += size

    def _forget(self, blob: bytes) -> None:
        with self._lock:
            self._verified.pop(blob, None)
            size = self._sizes.pop(blob, None)
            if size is not None:
                self._total_bytes -= size

    def _make_room(self, size: int) -> None:
        while self._total_bytes + size > self._limit_bytes:
            with self._lock:
                oldest = next(iter(self._sizes), None)
            if oldest is None:
                return
            self._files.unlink("cache.evict", self._blob_path(BlobId(oldest)))
            self._forget(oldest)

    def give_up(self) -> int:
        """Drop every blob, because the disk is full and edits come first; how many bytes that freed."""
        freed = self._total_bytes
        for blob in list(self._sizes):
            self._files.unlink("cache.evict", self._blob_path(BlobId(blob)))
            self._forget(blob)
        return freed

    def _scan(self) -> None:
        found = []
        for fan in os.listdir(self._blobs):
            if len(fan) != 2:
                os.unlink(f"{self._blobs}/{fan}")  # staged by a daemon that died
                continue
            for name in os.listdir(f"{self._blobs}/{fan}"):
                st = os.lstat(f"{self._blobs}/{fan}/{name}")
                found.append((st.st_atime_ns, bytes.fromhex(fan + name), st.st_size))
        for _, blob, size in sorted(found):
            self._touch(blob, size)

    def _staged_path(self) -> str:
        return f"{self._blobs}/staged-{next(self._serial):08d}"

    def _blob_path(self, blob: BlobId) -> str:
        name = blob.hex()
        return f"{self._blobs}/{name[:2]}/{name[2:]}"

    def _tree_path(self, tree: TreeId) -> str:
        name = tree.hex()
        return f"{self._trees}/{name[:2]}/{name[2:]}"


def check_tree(wanted: TreeId, stated: TreeId, entries: list[ListedEntry]) -> None:
    """Raise UntrustedObject unless ``entries`` hash to ``wanted`` and could be shown in a directory."""
    content = serialise_tree([entry.entry() for entry in entries])
    if stated != wanted or object_id(b"tree", content) != wanted:
        raise UntrustedObject(f"the entries sent as tree {wanted.hex()} do not hash to it")
    names = set()
    for entry in entries:
        why = objection(entry.name)
        if why is not None:
            raise UntrustedObject(f"tree {wanted.hex()} has an entry that cannot be shown: {why}")
        if entry.name in names:
            raise UntrustedObject(f"tree {wanted.hex()} has a name twice")
        if entry.mode not in _KNOWN_MODES or entry.size > _MAX_SIZE:
            raise UntrustedObject(
                f"tree {wanted.hex()} has an entry of unknown mode or absurd size"
            )
        names.add(entry.name)


def _in_memory(data: bytes) -> int:
    """A descriptor on bytes that no disk has room for."""
    fd = os.memfd_create("mesa-object", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


def _hash_fd(fd: int, size: int) -> bytes:
    digest = sha1(b"blob %d\0" % size, usedforsecurity=False)
    offset = 0
    while chunk := os.pread(fd, _COPY_BYTES, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.digest()
