"""Bringing a plain folder into a repository: walk, hash, pack, upload, publish.

Nothing outside the folder is ever read: every name is opened relative to its directory, without
following links. What git cannot carry is left out, counted and named; what cannot be read stops the
import before anything is published, so a repository never holds half a folder.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mesafs.base.clock import Clock
from mesafs.base.errors import Conflict, Exhausted, Invalid
from mesafs.git.objects import blob_id, serialise_tree, tree_id
from mesafs.git.packs import OBJECT_BLOB, OBJECT_TREE, PackWriter
from mesafs.model.ids import EMPTY_TREE, CheckoutId, PublishId, TreeId, ulid
from mesafs.model.objects import MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK, MODE_TREE, TreeEntry
from mesafs.model.paths import MAX_DEPTH, RepoPath, join, objection, to_text
from mesafs.sdk.sync_api import SyncApi
from mesafs.wire.sync import (
    MAX_ONE_OBJECT_PACK_BYTES,
    MAX_PACK_BYTES,
    PublishRequest,
    RepositoryState,
)

#: A file is held in memory while it is compressed.
MAX_FILE_BYTES = 1 << 30
_RECORD_OVERHEAD_BYTES = 64
_TRAILER_BYTES = 20


@dataclass(slots=True)
class Progress:
    """What was done so far, and what was left out and why."""

    files: int = 0
    size_bytes: int = 0
    packs: int = 0
    empty_directories: int = 0
    skipped: list[tuple[bytes, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Imported:
    """``is_new`` is False when the repository already held exactly this folder."""

    state: RepositoryState
    is_new: bool
    progress: Progress


Report = Callable[[Progress], None]


def import_folder(
    folder: Path,
    api: SyncApi,
    target: RepositoryState,
    *,
    message: str | None,
    replace: bool,
    clock: Clock,
    entropy: Callable[[int], bytes],
    report: Report,
) -> Imported:
    """Make the bookmark's content exactly that of ``folder``; an unempty one only with ``replace``."""
    if target.tree != EMPTY_TREE and not replace:
        raise Conflict(
            f"{target.organisation}/{target.name} already has content at {target.bookmark}",
            hint="import into another repository, or say --replace to replace that content",
        )
    checkout = CheckoutId(f"import-{ulid(clock.now_ns(), entropy(10))}")
    with _Uploader(api, target, checkout, report) as uploader:
        tree = _Walk(uploader).root(folder)
        if tree == target.tree:
            return Imported(target, is_new=False, progress=uploader.progress)
        uploader.flush()
    answer = api.publish(
        target.repository,
        PublishRequest(
            publish_id=PublishId(ulid(clock.now_ns(), entropy(10))),
            checkout_id=checkout,
            bookmark=target.bookmark,
            change=target.change,
            base_commit=target.commit,
            tree=tree,
            message=message,
        ),
    )
    return Imported(answer.state, is_new=True, progress=uploader.progress)


class _Uploader:
    """Collects objects into packs and sends each when it is full."""

    def __init__(
        self, api: SyncApi, target: RepositoryState, checkout: CheckoutId, report: Report
    ) -> None:
        self._api = api
        self._target = target
        self._checkout = checkout
        self._report = report
        self._seen: set[bytes] = set()
        self._begin()
        self.progress = Progress()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, kind: int, object_id: bytes, content: bytes, path: RepoPath) -> None:
        if object_id in self._seen:
            return
        self._seen.add(object_id)
        worst = len(content) + len(content) // 1000 + _RECORD_OVERHEAD_BYTES
        if len(self._pack) and self._pack.size_bytes + worst + _TRAILER_BYTES > MAX_PACK_BYTES:
            self.flush()
        self._pack.add(kind, object_id, content)
        if self._pack.size_bytes + _TRAILER_BYTES > MAX_ONE_OBJECT_PACK_BYTES:
            raise Exhausted(
                f"{to_text(join(path))} is over {MAX_ONE_OBJECT_PACK_BYTES >> 30} GiB",
                hint="larger files cannot be imported; leave it out of the folder",
            )
        if self._pack.size_bytes + _TRAILER_BYTES > MAX_PACK_BYTES:
            self.flush()  # alone in its pack, as the protocol wants a large object

    def flush(self) -> None:
        """Send what is packed; durable at the server when this returns."""
        if not len(self._pack):
            return
        self._pack.finish()
        self._api.upload_pack(self._target.repository, self._checkout, self._file)
        self.progress.packs += 1
        self._report(self.progress)
        self._file.close()
        self._begin()

    def counted(self, size_bytes: int) -> None:
        self.progress.files += 1
        self.progress.size_bytes += size_bytes
        self._report(self.progress)

    def _begin(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="mesa-import-")  # noqa: SIM115 - closed by __exit__
        self._pack = PackWriter(self._file)


class _Walk:
    """Turns directories into trees, depth first, by open directory descriptors."""

    def __init__(self, uploader: _Uploader) -> None:
        self._uploader = uploader
        self._progress = uploader.progress

    def root(self, folder: Path) -> TreeId:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Invalid(f"{folder} cannot be imported: {error.strerror}") from None
        return self._directory(fd, ()) or EMPTY_TREE

    def _directory(self, fd: int, path: RepoPath) -> TreeId | None:
        """The tree of a directory, or None when it holds nothing that git keeps. Closes ``fd``."""
        try:
            with os.scandir(fd) as listing:
                names = sorted(os.fsencode(entry.name) for entry in listing)
            entries = [entry for name in names if (entry := self._entry(fd, name, (*path, name)))]
        except OSError as error:
            raise _unreadable(path, error) from None
        finally:
            os.close(fd)
        if not entries:
            self._progress.empty_directories += bool(path)
            return None
        content = serialise_tree(entries)
        tree = tree_id(content)
        self._uploader.add(OBJECT_TREE, tree, content, path)
        return tree

    def _entry(self, fd: int, name: bytes, path: RepoPath) -> TreeEntry | None:
        why = objection(name) or (len(path) > MAX_DEPTH and "it is too deep") or None
        if why is not None:
            self._progress.skipped.append((join(path), why))
            return None
        try:
            facts = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                tree = self._directory(os.open(name, flags, dir_fd=fd), path)
                return None if tree is None else TreeEntry(MODE_TREE, name, tree)
            if stat.S_ISREG(facts.st_mode):
                return self._file(fd, name, path)
            if stat.S_ISLNK(facts.st_mode):
                return self._blob(MODE_SYMLINK, name, os.readlink(name, dir_fd=fd), path)
        except OSError as error:
            raise _unreadable(path, error) from None
        self._progress.skipped.append((join(path), "it is not a file, link or folder"))
        return None

    def _file(self, fd: int, name: bytes, path: RepoPath) -> TreeEntry:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=fd), "rb") as file:  # noqa: PTH123 - a descriptor
            # Asked of the descriptor: the name may mean another file by now.
            facts = os.fstat(file.fileno())
            if facts.st_size > MAX_FILE_BYTES:
                raise Exhausted(
                    f"{to_text(join(path))} is over {MAX_FILE_BYTES >> 30} GiB",
                    hint="larger files cannot be imported so far; leave it out of the folder",
                )
            content = file.read(MAX_FILE_BYTES + 1)
        mode = MODE_EXECUTABLE if facts.st_mode & stat.S_IXUSR else MODE_FILE
        return self._blob(mode, name, content, path)

    def _blob(self, mode: int, name: bytes, content: bytes, path: RepoPath) -> TreeEntry:
        blob = blob_id(content)
        self._uploader.add(OBJECT_BLOB, blob, content, path)
        self._uploader.counted(len(content))
        return TreeEntry(mode, name, blob)


def _unreadable(path: RepoPath, error: OSError) -> Invalid:
    return Invalid(
        f"{to_text(join(path)) or 'the folder'} cannot be read: {error.strerror}",
        hint="nothing was published; make it readable or leave it out, and import again",
    )
