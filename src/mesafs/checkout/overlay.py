"""Where the bytes of materialised files live: one file for each inode.

A file's bytes are under the inode's number, not under its path, so renaming a file or a directory
moves nothing here, and an unlinked file keeps its bytes while somebody has it open.

Invariant: a name without the suffix ``.new`` holds whole content. A file that is filled from an
object is staged under that suffix and renamed.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator

from mesafs.base.files import Files

_COPY_BYTES = 1 << 20


class Overlay:
    """The folder of materialised content of one checkout."""

    def __init__(self, folder: str, *, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._made = 0  # names made so far, and how many of them are known to be durable
        self._durable = 0
        self._filled: set[int] = set()  # copied from objects and not known to be durable
        self._syncing = threading.Lock()
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def path(self, ino: int) -> str:
        return f"{self._folder}/{ino:x}"

    def create(self, ino: int) -> int:
        """A new, empty file, open for reading and writing."""
        self._files.reached("overlay.stage")
        fd = os.open(
            f"{self._folder}/{ino:x}",
            os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
        )
        self._made += 1
        return fd

    def open(self, ino: int, flags: int) -> int:
        """Open existing content; ``flags`` are access mode and O_TRUNC, others are the caller's affair."""
        return os.open(f"{self._folder}/{ino:x}", flags | os.O_CLOEXEC | os.O_NOFOLLOW)

    def fill(self, ino: int, source: int, size: int, mtime_ns: int) -> None:
        """Materialise ``size`` bytes of the descriptor ``source``, keeping the file's time."""
        target = f"{self._folder}/{ino:x}"
        staged = f"{target}.new"
        self._files.reached("overlay.stage")
        fd = os.open(
            staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            _copy(source, fd, size)
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        except BaseException:
            os.unlink(staged)
            raise
        finally:
            os.close(fd)
        self._files.rename("overlay.publish", staged, target)
        self._made += 1
        self._filled.add(ino)

    def remove(self, ino: int) -> None:
        self._files.unlink("overlay.remove", f"{self._folder}/{ino:x}")

    def take_filled(self) -> set[int]:
        """What was filled since the last call: to be given to ``sync_filled`` before the journal's sync."""
        filled, self._filled = self._filled, set()
        return filled

    def sync_filled(self, filled: set[int]) -> None:
        """Make copied content durable, so that no mark in a durable journal stands for lost bytes.

        Waits for the call of another thread, whose marks the caller's journal may have too.
        """
        with self._syncing:
            while filled:
                ino = next(iter(filled))
                try:
                    fd = self.open(ino, os.O_RDONLY)
                except FileNotFoundError:
                    filled.discard(ino)
                    continue
                try:
                    self._files.sync("overlay.sync", fd)
                except BaseException:
                    self._filled |= filled
                    raise
                finally:
                    os.close(fd)
                filled.discard(ino)

    def sync_directory(self) -> None:
        """Make the names of all content durable, if any is not."""
        made = self._made
        if made != self._durable:
            self._files.sync_directory("overlay.dirsync", self._folder)
            self._durable = made

    def inodes(self) -> Iterator[int]:
        """Numbers of all content here; what a crash left half staged is removed on the way."""
        for name in os.listdir(self._folder):
            if name.endswith(".new"):
                os.unlink(f"{self._folder}/{name}")
            else:
                yield int(name, 16)


def _copy(source: int, target: int, size: int) -> None:
    """Copy ``size`` bytes from the start, by the kernel where it can."""
    offset = 0
    while offset < size:
        wanted = min(size - offset, 1 << 30)
        try:
            copied = os.copy_file_range(source, target, wanted, offset, offset)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            copied = os.pwrite(target, os.pread(source, min(wanted, _COPY_BYTES), offset), offset)
        if copied == 0:
            raise OSError(errno.EIO, "the cached object is shorter than its size")
        offset += copied
