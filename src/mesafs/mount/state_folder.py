"""Folders that belong to one user, and the lock that makes one daemon their only writer.

Invariant: every folder below the trusted base is a real directory of ours that nobody else may
enter. One that is not is refused with the remedy and never "repaired": whoever prepared it may be
waiting for just that.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mesafs.base.errors import Conflict, Denied, Exhausted, Invalid

_TMPFS, _RAMFS, _OVERLAYFS = 0x01021994, 0x858458F6, 0x794C7630
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LOCK_NAME = "lock"


class UnsafeFolder(Denied):
    """A folder is a link, belongs to another user, or is open to others."""


class FolderInUse(Conflict):
    """Another daemon holds the lock."""


class NotDurable(Invalid):
    """The folder lies in memory and would not survive a restart."""


def private_folder(base: Path, *parts: str) -> Path:
    """Make ``base/parts...`` with mode 0700 where missing, check each folder, return the last.

    Nobody else may write ``base`` or as much as enter a folder below it.
    ``base`` itself may contain links (a home directory often does) but its real parents must be
    writable by nobody but root and this user.
    """
    base = Path(os.path.realpath(base))
    _check_parents(base)
    _make(base)
    fd = _open_checked(base, None, base, closed_to=0o022)
    path = base
    try:
        for part in parts:
            if part in ("", ".", "..") or "/" in part:
                raise Invalid(f"{part!r} is not the name of a folder")
            path /= part
            _create(part, fd, path)
            inner = _open_checked(part, fd, path, closed_to=0o077)
            os.close(fd)
            fd = inner
    finally:
        os.close(fd)
    return path


def _make(path: Path) -> None:
    """``path`` and what is missing above it, each 0700 whatever the umask is."""
    if not path.is_dir():
        _make(path.parent)
        _create(path, None, path)


def _create(name: str | Path, at: int | None, path: Path) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=at)
    except FileExistsError:
        return  # what it is, is looked at when it is opened
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Exhausted(f"{path} cannot be created: the disk is full") from None
        raise UnsafeFolder(
            f"{path} cannot be created: {error.strerror}",
            hint="set XDG_STATE_HOME (or MESA_RUNTIME_DIR) to a folder of your own",
        ) from None


def _open_checked(name: str | Path, at: int | None, path: Path, *, closed_to: int) -> int:
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UnsafeFolder(
                f"{path} is a link or no directory", hint=f"look at it, then remove it: {path}"
            ) from None
        raise UnsafeFolder(f"{path} cannot be opened: {error.strerror}") from None
    try:
        _check(os.fstat(fd), path, closed_to)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(status: os.stat_result, path: Path, closed_to: int) -> None:
    if status.st_uid != os.geteuid():
        raise UnsafeFolder(
            f"{path} belongs to user {status.st_uid}",
            hint="set XDG_STATE_HOME (or MESA_RUNTIME_DIR) to a folder of your own",
        )
    if status.st_mode & closed_to:
        raise UnsafeFolder(
            f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"look at what is in it, then: `chmod 700 {path}`",
        )


def _check_parents(base: Path) -> None:
    for parent in base.parents:
        try:
            status = parent.stat()
        except OSError:
            continue  # not there yet: made by us below one that was checked
        if status.st_uid not in (0, os.geteuid()):
            raise UnsafeFolder(f"{parent}, above {base}, belongs to user {status.st_uid}")
        if status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX:
            raise UnsafeFolder(
                f"{parent}, above {base}, may be written by anyone", hint=f"`chmod o-w {parent}`"
            )


class StateFolder:
    """A private folder, locked for this process until closed."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, base: Path, parts: Sequence[str], *, ephemeral: bool = False) -> StateFolder:
        """Make, check and lock ``base/parts...``.

        :class:`NotDurable` on a filesystem in memory unless ``ephemeral``; :class:`FolderInUse`
        when another process holds it.
        """
        path = private_folder(base, *parts)
        if not ephemeral and is_in_memory(path):
            raise NotDurable(
                f"{path} is kept in memory: unpublished edits would not survive a restart",
                hint="set XDG_STATE_HOME to a folder on disk, or accept it with --ephemeral",
            )
        return cls(path, _lock(path / LOCK_NAME))

    def still_held(self) -> bool:
        """Whether the lock file is still the one we hold: it may have been deleted under us."""
        try:
            seen = os.stat(self.path / LOCK_NAME, follow_symlinks=False)
        except OSError:
            return False
        held = os.fstat(self._lock_fd)
        return (seen.st_dev, seen.st_ino) == (held.st_dev, held.st_ino)

    def close(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _lock(path: Path) -> int:
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UnsafeFolder(f"{path} is a link", hint=f"remove it: {path}") from None
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Exhausted(f"{path} cannot be created: the disk is full") from None
            raise
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise FolderInUse(
                f"{path.parent} is in use by process {holder}",
                hint="that mount shows the same repository: use it, or `mesa unmount` it first",
            ) from None
        try:  # between open and lock the file may have been removed and made anew
            current = os.stat(path, follow_symlinks=False).st_ino == os.fstat(fd).st_ino
        except FileNotFoundError:
            current = False
        if current:
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
            return fd
        os.close(fd)


def is_in_memory(path: Path) -> bool:
    return _filesystem_type(path) in (_TMPFS, _RAMFS)


def is_overlay(path: Path) -> bool:
    """Whether ``path`` lies on overlayfs, as a container's root does (passthrough depth 2)."""
    return _filesystem_type(path) == _OVERLAYFS


def _filesystem_type(path: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    answer = (ctypes.c_ulong * 32)()  # struct statfs begins with f_type, a long
    if libc.statfs(os.fsencode(path), answer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(path))
    return int(answer[0]) & 0xFFFFFFFF
