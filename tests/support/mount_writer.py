"""A program that edits a folder by plain system calls and notes each call it makes outside of it.

Run as a process of its own: a mapping of a mount that dies kills it by SIGBUS. What it does follows
from its seed alone; names are few, so that calls meet what earlier ones left, and many fail as they
must. The log has one JSON line before each call and one after it: null, or the errno.
"""

# Plain calls are the point here.
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH211
from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import sys
from collections.abc import Callable
from random import Random
from typing import Any

DEAD = frozenset({errno.ENOTCONN, errno.ECONNABORTED})
_NAMES = ["a", "b", "c", "dd", "e.txt"]
_EXCHANGE = 2
_AT_FDCWD = -100
_LIBC = ctypes.CDLL(None, use_errno=True)
_MOSTLY_SMALL = [0, 1, 40, 200, 4096, 5000, 20000, 100000]


class MountDied(Exception):
    """The call under way was not acknowledged; nothing more can be done here."""


class Writer:
    def __init__(self, folder: str, log: int, random: Random) -> None:
        self._folder = folder
        self._log = log
        self._random = random

    def step(self) -> None:
        """One operation: one to four calls."""
        weighted: list[Callable[[], None]] = [
            *[self._create] * 6,
            *[self._overwrite] * 4,
            *[self._append] * 4,
            *[self._rename] * 5,
            *[self._mkdir] * 3,
            *[self._truncate] * 2,
            *[self._unlink] * 2,
            *[self._store] * 2,
            self._replace,
            self._exchange,
            self._rmdir,
            self._symlink,
            self._chmod,
            self._unlinked_while_open,
            self._renamed_while_open,
        ]
        self._random.choice(weighted)()

    # -- operations -----------------------------------------------------------------------------

    def _create(self) -> None:
        path = self._path()
        self._filled(path, self._open(["create", path], os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    def _overwrite(self) -> None:
        path = self._path()
        self._filled(path, self._open(["empty", path], os.O_TRUNC | os.O_WRONLY))

    def _filled(self, path: str, fd: int | None) -> None:
        data = self._data()
        sync = self._random.random() < 0.2
        if fd is None:
            return
        try:
            self._write(path, fd, 0, data)
            if sync:
                self._call(["sync", path], lambda: os.fsync(fd))
        finally:
            _close(fd)

    def _append(self) -> None:
        path, data = self._path(), self._data()
        fd = self._open(["open", path], os.O_APPEND | os.O_WRONLY)
        if fd is None:
            return
        try:
            self._call(["append", path, data.hex()], lambda: os.write(fd, data))
        finally:
            _close(fd)

    def _truncate(self) -> None:
        path, size = self._path(), self._random.choice(_MOSTLY_SMALL)
        self._call(["truncate", path, size], lambda: os.truncate(self._at(path), size))

    def _rename(self) -> None:
        old, new = self._path(), self._path()
        self._call(["rename", old, new], lambda: os.rename(self._at(old), self._at(new)))

    def _replace(self) -> None:
        """As careful editors do: a file aside, synced, renamed over the old one."""
        path = self._path()
        aside = path + ".new"
        fd = self._open(["create", aside], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        data = self._data()
        if fd is None:
            return
        try:
            self._write(aside, fd, 0, data)
            self._call(["sync", aside], lambda: os.fsync(fd))
        finally:
            _close(fd)
        if not self._call(
            ["rename", aside, path], lambda: os.rename(self._at(aside), self._at(path))
        ):
            self._call(["unlink", aside], lambda: os.unlink(self._at(aside)))

    def _exchange(self) -> None:
        old, new = self._path(), self._path()

        def exchange() -> None:
            done = _LIBC.renameat2(
                _AT_FDCWD,
                self._at(old).encode(),
                _AT_FDCWD,
                self._at(new).encode(),
                _EXCHANGE,
            )
            if done != 0:
                raise OSError(ctypes.get_errno(), "renameat2")

        self._call(["exchange", old, new], exchange)

    def _unlink(self) -> None:
        path = self._path()
        self._call(["unlink", path], lambda: os.unlink(self._at(path)))

    def _mkdir(self) -> None:
        path = self._path()
        self._call(["mkdir", path], lambda: os.mkdir(self._at(path)))

    def _rmdir(self) -> None:
        path = self._path()
        self._call(["rmdir", path], lambda: os.rmdir(self._at(path)))

    def _symlink(self) -> None:
        path, target = self._path("link"), self._path()
        self._call(["symlink", path, target], lambda: os.symlink(target, self._at(path)))

    def _chmod(self) -> None:
        path, mode = self._path(), self._random.choice([0o755, 0o644])
        self._call(["chmod", path, mode], lambda: os.chmod(self._at(path), mode))

    def _store(self) -> None:
        """A store through a mapping counts once msync has returned."""
        path, data = self._path(), self._random.randbytes(16)
        part = self._random.random()
        fd = self._open(["open", path], os.O_RDWR)
        if fd is None:
            return
        try:
            size = os.fstat(fd).st_size
            if size < len(data):
                return
            offset = int(part * (size - len(data))) // 16 * 16  # within one page
            with mmap.mmap(fd, size) as mapping:

                def store() -> None:
                    mapping[offset : offset + len(data)] = data
                    mapping.flush()

                self._call(["write", path, offset, data.hex()], store)
        except OSError as error:
            raise MountDied from error
        finally:
            _close(fd)

    def _unlinked_while_open(self) -> None:
        path, data = self._path(), self._data()
        fd = self._open(["open", path], os.O_RDWR)
        if fd is None:
            return
        try:
            self._call(["unlink", path], lambda: os.unlink(self._at(path)))
            self._call(["nothing"], lambda: os.pwrite(fd, data, 0))
        finally:
            _close(fd)

    def _renamed_while_open(self) -> None:
        path, new, data = self._path(), self._path(), self._data()
        fd = self._open(["open", path], os.O_WRONLY)
        if fd is None:
            return
        try:
            if self._call(["rename", path, new], lambda: os.rename(self._at(path), self._at(new))):
                self._write(new, fd, 0, data)
        finally:
            _close(fd)

    # -- calls ----------------------------------------------------------------------------------

    def _open(self, entry: list[Any], flags: int) -> int | None:
        opened: list[int] = []
        path = self._at(entry[1])
        self._call(entry, lambda: opened.append(os.open(path, flags | os.O_CLOEXEC, 0o644)))
        return opened[0] if opened else None

    def _write(self, path: str, fd: int, offset: int, data: bytes) -> None:
        entry = ["write", path, offset, data.hex()]
        self._call(entry, lambda: os.pwrite(fd, data, offset))

    def _call(self, entry: list[Any], call: Callable[[], object]) -> bool:
        self._note(entry)
        try:
            call()
        except OSError as error:
            if error.errno in DEAD:
                raise MountDied from error
            self._note(error.errno)
            return False
        self._note(None)
        return True

    def _note(self, entry: object) -> None:
        os.write(self._log, json.dumps(entry).encode() + b"\n")

    def _path(self, last: str | None = None) -> str:
        depth = self._random.choice([0, 0, 1, 1, 1, 2])
        names = [self._random.choice(_NAMES[:3]) for _ in range(depth)]
        return "/".join([*names, last or self._random.choice(_NAMES)])

    def _data(self) -> bytes:
        return self._random.randbytes(
            self._random.randrange(self._random.choice(_MOSTLY_SMALL[1:]))
        )

    def _at(self, path: str) -> str:
        return f"{self._folder}/{path}"


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # the mount is gone; the next call says so


def main(folder: str, log: str, seed: str, steps: str) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    writer = Writer(folder, fd, Random(seed))
    try:
        for _ in range(int(steps)):
            writer.step()
    except MountDied:
        sys.exit(3)


if __name__ == "__main__":
    main(*sys.argv[1:])
