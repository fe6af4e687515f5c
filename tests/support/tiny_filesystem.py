"""A read-only filesystem in memory, small enough to be read at a glance, to serve in tests."""

from __future__ import annotations

import errno
import logging
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mesafs.mount.fuse import abi, mounting
from mesafs.mount.fuse.abi import Opcode
from mesafs.mount.fuse.deferred import Deferred
from mesafs.mount.fuse.session import NODEID, Handler, Head, Result, Session, SessionOptions

LOG = logging.getLogger("tiny")


class Tiny:
    """Files by name in one directory; nodeid 2 is the first. ``slow`` replaces a
    file's read, ``slow_names`` the search for a name.
    """

    def __init__(self, files: dict[bytes, bytes]) -> None:
        self.names = list(files)
        self.files = dict(files)
        self.slow: dict[bytes, Callable[[], Result]] = {}
        self.slow_names: dict[bytes, Callable[[], Result]] = {}
        self.lookups: list[bytes] = []
        self.broken = False

    def table(self) -> list[Handler | None]:
        table: list[Handler | None] = [None] * abi.TABLE_SIZE
        table[Opcode.LOOKUP] = self.lookup
        table[Opcode.GETATTR] = self.getattr
        table[Opcode.OPEN] = lambda _h, _p: abi.OPEN_OUT.pack(0, abi.FOPEN_KEEP_CACHE, 0)
        table[Opcode.READ] = self.read
        table[Opcode.RELEASE] = lambda _h, _p: b""
        table[Opcode.OPENDIR] = lambda _h, _p: abi.OPEN_OUT.pack(0, 0, 0)
        table[Opcode.READDIR] = self.readdir
        table[Opcode.RELEASEDIR] = lambda _h, _p: b""
        return table

    def attributes(self, nodeid: int) -> tuple[int, ...]:
        if nodeid == abi.ROOT_NODE:
            return (1, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0)
        size = len(self.files[self.names[nodeid - 2]])
        return (nodeid, size, 1, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o644, 1, 0, 0, 0, 4096, 0)

    def lookup(self, _head: Head, payload: memoryview) -> Result:
        name = bytes(payload[:-1])
        self.lookups.append(name)
        if self.broken:
            raise KeyError("a bug in the handler")
        if name in self.slow_names:
            return self.slow_names[name]()
        year = abi.YEAR_SECONDS
        if name not in self.files:
            return abi.ENTRY_OUT.pack(0, 0, year, 0, 0, 0, *(0,) * 16)
        nodeid = self.names.index(name) + 2
        return abi.ENTRY_OUT.pack(nodeid, 0, year, year, 0, 0, *self.attributes(nodeid))

    def getattr(self, head: Head, _payload: memoryview) -> Result:
        return abi.ATTR_OUT.pack(abi.YEAR_SECONDS, 0, 0, *self.attributes(head[NODEID]))

    def read(self, head: Head, payload: memoryview) -> Result:
        _fh, offset, size, *_ = abi.READ_IN.unpack_from(payload)
        name = self.names[head[NODEID] - 2]
        if name in self.slow:
            return self.slow[name]()
        return self.files[name][offset : offset + size]

    def readdir(self, _head: Head, payload: memoryview) -> Result:
        offset = abi.READ_IN.unpack_from(payload)[1]
        pieces: list[bytes | memoryview] = []
        for at, name in list(enumerate(self.names))[offset:]:
            pieces.append(abi.DIRENT.pack(at + 2, at + 1, len(name), 8))
            pieces.append(name + bytes(-len(name) % 8))
        return pieces


class Gate:
    """Work that waits until the test opens it, or the caller is interrupted."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.cancelled = threading.Event()

    def deferred(self) -> Deferred:
        return Deferred(self._wait, self.cancelled)

    def _wait(self) -> Result:
        self.entered.set()
        while not self.opened.wait(0.01):
            if self.cancelled.is_set():
                raise InterruptedError(errno.EINTR, "interrupted")
        return self.answer


@contextmanager
def served(target: Path, tiny: Tiny, options: SessionOptions | None = None) -> Iterator[Session]:
    """Mount ``tiny`` at ``target`` with a session in a thread; unmounted at the end."""
    fd = mounting.mount_root(target, "tiny", "mesa")
    session = Session(fd, tiny.table(), options=options or SessionOptions(), log=LOG)
    thread = threading.Thread(target=session.serve, daemon=True)
    thread.start()
    try:
        assert session.initialised.wait(10)
        yield session
    finally:
        if mounting.find(target) is not None:
            mounting.unmount(target, lazy=True)
        thread.join(10)
        assert not thread.is_alive()
        assert session.close()
