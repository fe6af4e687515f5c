"""What each request of the kernel means to the checkouts.

A handler runs with the lock held and answers in microseconds. When objects have to be fetched first
the checkout raises :class:`Wanted` before it changed anything; the handler is then run again on the
session's pool, after the fetch. What must wait for the disk (fsync) goes to the pool as well.

One io mode for an inode at a time: cached, or passthrough to its overlay file. Only materialised
files are passed through: an object in the cache is read through the page cache.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Protocol

from mesafs.checkout.checkout import Checkout, refused
from mesafs.checkout.fetcher import Wanted
from mesafs.checkout.nodes import Node
from mesafs.mount.fuse import abi
from mesafs.mount.fuse.abi import Opcode
from mesafs.mount.fuse.deferred import Deferred
from mesafs.mount.fuse.session import NODEID, Handler, Head, Result
from mesafs.mount.inodes import Inodes

_YEAR = abi.YEAR_SECONDS
_PASSTHROUGH_ABOVE_BYTES = 128 << 10
_MAX_COPY_BYTES = 1 << 30
_PACK_ENTRY, _PACK_ATTR = abi.ENTRY_OUT.pack, abi.ATTR_OUT.pack
_NEGATIVE = _PACK_ENTRY(0, 0, _YEAR, 0, 0, 0, *(0,) * 16)
_BILLION = 1_000_000_000
_KEPT_LISTINGS = 16
_COOKIE = attrgetter("cookie")

Method = Callable[[Head, memoryview], Result]


class Passthrough(Protocol):
    """The session's part in passthrough."""

    def backing_open(self, fd: int) -> int: ...

    def backing_close(self, backing_id: int) -> None: ...


class Durability(Protocol):
    """What fsync sets in motion once everything is on this machine's disk."""

    def synced(self, checkout: Checkout) -> None:
        """Start a publish; with ``--durability=server`` wait for it, or raise OSError(EIO)."""
        ...


class Handle:
    """One open file of a program."""

    __slots__ = ("fd", "node", "writing")

    def __init__(self, node: Node, fd: int, *, writing: bool) -> None:
        self.node, self.fd, self.writing = node, fd, writing


class Operations:
    """The handlers, their open files and listings."""

    def __init__(
        self, inodes: Inodes, *, uid: int, gid: int, state_folder: str, durability: Durability
    ) -> None:
        self._inodes = inodes
        self._nodes = inodes.table
        self._lock = inodes.lock
        self._uid, self._gid = uid, gid
        self._state_folder = state_folder
        self._durability = durability
        self._handles: dict[int, Handle] = {}
        self._listings: dict[int, list[Node]] = {}
        self._next_handle = 1
        #: Set by the daemon once the kernel agreed to passthrough.
        self.passthrough: Passthrough | None = None

    def table(self) -> list[Handler | None]:
        """Handlers by opcode. Those left out are answered ENOSYS, once each."""
        table: list[Handler | None] = [None] * abi.TABLE_SIZE
        locked: dict[int, Method] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.SETATTR: self._setattr,
            Opcode.READLINK: self._readlink,
            Opcode.SYMLINK: self._symlink,
            Opcode.MKNOD: self._mknod,
            Opcode.MKDIR: self._mkdir,
            Opcode.UNLINK: self._unlink,
            Opcode.RMDIR: self._rmdir,
            Opcode.RENAME: self._rename,
            Opcode.RENAME2: self._rename2,
            Opcode.OPEN: self._open,
            Opcode.CREATE: self._create,
            Opcode.RELEASE: self._release,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
        }
        for opcode, method in locked.items():
            table[opcode] = self._guarded(method)
        table[Opcode.LINK] = lambda _head, _data: errno.EPERM
        table[Opcode.READ] = self._read
        table[Opcode.WRITE] = self._write
        table[Opcode.STATFS] = self._statfs
        table[Opcode.FSYNC] = self._fsync
        table[Opcode.FSYNCDIR] = self._fsyncdir
        table[Opcode.FALLOCATE] = self._fallocate
        table[Opcode.LSEEK] = self._lseek
        table[Opcode.COPY_FILE_RANGE] = self._copy_file_range
        return table

    def open_files(self) -> int:
        return len(self._handles)

    def _guarded(self, method: Method) -> Handler:
        lock = self._lock

        def handler(head: Head, data: memoryview) -> Result:
            try:
                with lock:
                    return method(head, data)
            except Wanted as wanted:
                copied, first = bytes(data), wanted
                return Deferred(lambda: self._after_fetch(method, head, copied, first))

        return handler

    def _after_fetch(self, method: Method, head: Head, data: bytes, wanted: Wanted) -> Any:
        while True:
            wanted.fetch()
            try:
                with self._lock:
                    return method(head, memoryview(data))
            except Wanted as again:
                wanted = again

    # -- attributes -----------------------------------------------------------------------------

    def _attributes(self, node: Node) -> tuple[int, ...]:
        if node.materialised:
            st = os.stat(node.checkout.overlay.path(node.ino))
            size, mtime_ns, blocks = st.st_size, st.st_mtime_ns, st.st_blocks
        else:
            size, mtime_ns = node.size, node.mtime_ns
            blocks = (size + 511) >> 9
        seconds, nanoseconds = divmod(mtime_ns, _BILLION)
        named = node.parent is not None or node.is_directory
        return (
            node.ino,
            size,
            blocks,
            seconds,
            seconds,
            seconds,
            nanoseconds,
            nanoseconds,
            nanoseconds,
            node.mode,
            1 if named else 0,
            self._uid,
            self._gid,
            node.rdev,
            4096,
            0,
        )

    def _entry(self, node: Node) -> bytes:
        node.lookups += 1
        return _PACK_ENTRY(node.ino, 0, _YEAR, _YEAR, 0, 0, *self._attributes(node))

    def _node(self, nodeid: int) -> Node:
        node = self._nodes.get(nodeid)
        if node is None:
            raise refused(errno.ESTALE)
        return node

    def _editable(self, nodeid: int) -> Node:
        """A node of a checkout: the folders above them are not for editing."""
        node = self._node(nodeid)
        if node.checkout is None:
            raise refused(errno.EPERM)
        return node

    def _lookup(self, head: Head, data: memoryview) -> Result:
        parent = self._node(head[NODEID])
        name = bytes(data[:-1])
        if parent.checkout is None:
            child = (parent.children or {}).get(name)
        else:
            child = parent.checkout.lookup(parent, name)
        return _NEGATIVE if child is None else self._entry(child)

    def _forget(self, head: Head, data: memoryview) -> Result:
        self._forget_one(head[NODEID], abi.FORGET_IN.unpack_from(data)[0])
        return None

    def _batch_forget(self, _head: Head, data: memoryview) -> Result:
        count = abi.BATCH_FORGET_IN.unpack_from(data)[0]
        for at in range(8, 8 + 16 * count, 16):
            self._forget_one(*abi.FORGET_ONE.unpack_from(data, at))
        return None

    def _forget_one(self, nodeid: int, count: int) -> None:
        node = self._nodes.get(nodeid)
        if node is None or node.checkout is None:
            return
        node.lookups -= count
        root = node is node.checkout.root
        if node.lookups <= 0 and node.parent is None and not root and node.handles == 0:
            node.checkout.discard(node)

    def _getattr(self, head: Head, _data: memoryview) -> Result:
        node = self._node(head[NODEID])
        if node.checkout is not None and node.checkout.refuse_reads:
            return int(node.checkout.refuse_reads)
        return _PACK_ATTR(_YEAR, 0, 0, *self._attributes(node))

    def _setattr(self, head: Head, data: memoryview) -> Result:
        (valid, _, _, size, _, _, mtime, _, _, mtime_nsec, _, mode, _, uid, gid, _) = (
            abi.SETATTR_IN.unpack_from(data)
        )
        node = self._editable(head[NODEID])
        checkout: Checkout = node.checkout
        checkout.check_writable()
        if (valid & abi.FATTR_UID and uid != self._uid) or (
            valid & abi.FATTR_GID and gid != self._gid
        ):
            return errno.EPERM  # git keeps no owner: all files are the mount's
        if valid & abi.FATTR_SIZE:
            checkout.truncate(node, size)
        if valid & abi.FATTR_MODE:
            checkout.set_mode(node, mode)
        if valid & abi.FATTR_MTIME:
            now = valid & abi.FATTR_MTIME_NOW
            checkout.set_mtime(node, time.time_ns() if now else mtime * _BILLION + mtime_nsec)
        return _PACK_ATTR(_YEAR, 0, 0, *self._attributes(node))

    # -- names ----------------------------------------------------------------------------------

    def _readlink(self, head: Head, _data: memoryview) -> Result:
        node = self._editable(head[NODEID])
        return bytes(node.checkout.readlink(node))

    def _symlink(self, head: Head, data: memoryview) -> Result:
        parent = self._editable(head[NODEID])
        name, target = bytes(data).split(b"\0")[:2]
        return self._entry(parent.checkout.symlink(parent, name, target))

    def _mkdir(self, head: Head, data: memoryview) -> Result:
        parent = self._editable(head[NODEID])
        mode = abi.MKDIR_IN.unpack_from(data)[0]
        return self._entry(parent.checkout.mkdir(parent, bytes(data[8:-1]), mode))

    def _mknod(self, head: Head, data: memoryview) -> Result:
        mode, rdev, _, _ = abi.MKNOD_IN.unpack_from(data)
        name = bytes(data[16:-1])
        parent = self._editable(head[NODEID])
        checkout: Checkout = parent.checkout
        if stat.S_ISREG(mode):
            node, fd = checkout.create(parent, name, mode & 0o777)
            os.close(fd)
            checkout.written(node)
        else:
            node = checkout.mknod(parent, name, mode, rdev)
        return self._entry(node)

    def _unlink(self, head: Head, data: memoryview) -> Result:
        parent = self._editable(head[NODEID])
        parent.checkout.unlink(parent, bytes(data[:-1]))
        return b""

    def _rmdir(self, head: Head, data: memoryview) -> Result:
        parent = self._editable(head[NODEID])
        parent.checkout.rmdir(parent, bytes(data[:-1]))
        return b""

    def _rename(self, head: Head, data: memoryview) -> Result:
        return self._renamed(head, abi.RENAME_IN.unpack_from(data)[0], 0, bytes(data[8:]))

    def _rename2(self, head: Head, data: memoryview) -> Result:
        target, flags, _ = abi.RENAME2_IN.unpack_from(data)
        return self._renamed(head, target, flags, bytes(data[16:]))

    def _renamed(self, head: Head, target: int, flags: int, names: bytes) -> Result:
        old, new = names.split(b"\0")[:2]
        parent, other = self._editable(head[NODEID]), self._editable(target)
        if parent.checkout is not other.checkout:
            return errno.EXDEV
        parent.checkout.rename(parent, old, other, new, flags)
        return b""

    # -- files ----------------------------------------------------------------------------------

    def _open(self, head: Head, data: memoryview) -> Result:
        flags = abi.OPEN_IN.unpack_from(data)[0]
        node = self._editable(head[NODEID])
        truncate = bool(flags & os.O_TRUNC)
        writing = flags & os.O_ACCMODE != os.O_RDONLY or truncate
        fd = node.checkout.open(node, writing=writing, truncate=truncate)
        return self._opened(node, fd, writing=writing)

    def _create(self, head: Head, data: memoryview) -> Result:
        flags, mode, _, _ = abi.CREATE_IN.unpack_from(data)
        name = bytes(data[16:-1])
        parent = self._editable(head[NODEID])
        checkout: Checkout = parent.checkout
        existing = checkout.lookup(parent, name)
        if existing is None:
            node, fd = checkout.create(parent, name, mode & 0o777)
        elif flags & os.O_EXCL:
            return errno.EEXIST
        elif not existing.is_file:
            return errno.EISDIR if existing.is_directory else errno.ELOOP
        else:
            # It came from the server after the kernel had asked and heard of no such file.
            node = existing
            fd = checkout.open(node, writing=True, truncate=bool(flags & os.O_TRUNC))
        return self._entry(node) + self._opened(node, fd, writing=True)

    def _opened(self, node: Node, fd: int, *, writing: bool) -> bytes:
        number = self._next_handle
        self._next_handle = number + 1
        if (
            self.passthrough is not None
            and node.materialised
            and node.handles == 0
            and (writing or os.fstat(fd).st_size > _PASSTHROUGH_ABOVE_BYTES)
        ):
            node.backing = self._register(node, fd, writing=writing)
        node.handles += 1
        self._handles[number] = Handle(node, fd, writing=writing)
        if node.backing:
            node.stale = True  # the page cache of this inode sees none of these writes
            return abi.OPEN_OUT.pack(
                number, abi.FOPEN_PASSTHROUGH | abi.FOPEN_NOFLUSH, node.backing
            )
        keep = 0 if node.stale else abi.FOPEN_KEEP_CACHE
        node.stale = False
        return abi.OPEN_OUT.pack(number, keep | abi.FOPEN_NOFLUSH, 0)

    def _register(self, node: Node, fd: int, *, writing: bool) -> int:
        """Later opens of the inode use the same id, so it must be registered for reading and writing."""
        assert self.passthrough is not None, "checked by the caller"
        try:
            if writing:
                return self.passthrough.backing_open(fd)
            spare = node.checkout.overlay.open(node.ino, os.O_RDWR)
            try:
                return self.passthrough.backing_open(spare)
            finally:
                os.close(spare)
        except OSError:
            return 0  # not permitted, or the overlay lies on a stacked filesystem: go cached

    def moved_to_overlay(self, node: Node) -> None:
        """Point a file's open descriptors at its overlay file. Called with the lock held."""
        for handle in self._handles.values():
            if handle.node is node:
                fd = node.checkout.overlay.open(node.ino, os.O_RDONLY)
                os.dup2(fd, handle.fd, inheritable=False)
                os.close(fd)

    def _release(self, _head: Head, data: memoryview) -> Result:
        handle = self._handles.pop(abi.RELEASE_IN.unpack_from(data)[0], None)
        if handle is None:
            return b""
        node = handle.node
        os.close(handle.fd)
        node.handles -= 1
        if handle.writing:
            node.checkout.written(node)
        if node.handles == 0:
            if node.backing and self.passthrough is not None:
                self.passthrough.backing_close(node.backing)
            node.backing = 0
            if node.parent is None:
                node.checkout.discard(node)
        return b""

    def _handle(self, number: int) -> Handle:
        handle = self._handles.get(number)
        if handle is None:
            raise refused(errno.EBADF)
        return handle

    def _read(self, _head: Head, data: memoryview) -> Result:
        number, offset, size, *_ = abi.READ_IN.unpack_from(data)
        handle = self._handle(number)
        if handle.node.checkout.refuse_reads:
            return int(handle.node.checkout.refuse_reads)
        return os.pread(handle.fd, size, offset)

    def _write(self, _head: Head, data: memoryview) -> Result:
        number, offset, size, *_ = abi.WRITE_IN.unpack_from(data)
        handle = self._handle(number)
        checkout: Checkout = handle.node.checkout
        if checkout.refuse_writes:
            return checkout.refuse_writes
        if checkout.used_bytes > checkout.limit_bytes:
            return errno.ENOSPC
        written = os.pwrite(handle.fd, data[40 : 40 + size], offset)
        with self._lock:
            checkout.touched(handle.node)
        return abi.WRITE_OUT.pack(written, 0)

    def _fsync(self, _head: Head, data: memoryview) -> Result:
        handle = self._handle(abi.FSYNC_IN.unpack_from(data)[0])

        def work() -> bytes:
            os.fdatasync(handle.fd)
            with self._lock:
                handle.node.published = None
            self._make_durable(handle.node.checkout)
            return b""

        return Deferred(work)

    def _fsyncdir(self, head: Head, _data: memoryview) -> Result:
        node = self._node(head[NODEID])
        if node.checkout is None:
            return b""

        def work() -> bytes:
            self._make_durable(node.checkout)
            return b""

        return Deferred(work)

    def _make_durable(self, checkout: Checkout) -> None:
        with self._lock:
            point = checkout.journal.sync_point()
            filled = checkout.overlay.take_filled()
        try:
            checkout.overlay.sync_filled(filled)
            checkout.overlay.sync_directory()
        except BaseException:
            point.close()
            raise
        point.sync()
        self._durability.synced(checkout)

    def _fallocate(self, _head: Head, data: memoryview) -> Result:
        number, offset, length, mode, _ = abi.FALLOCATE_IN.unpack_from(data)
        handle = self._handle(number)
        checkout: Checkout = handle.node.checkout
        if mode:
            return errno.EOPNOTSUPP
        if offset + length > checkout.limit_bytes:
            return errno.ENOSPC
        os.posix_fallocate(handle.fd, offset, length)
        with self._lock:
            checkout.touched(handle.node)
        return b""

    def _lseek(self, _head: Head, data: memoryview) -> Result:
        number, offset, whence, _ = abi.LSEEK_IN.unpack_from(data)
        return abi.LSEEK_OUT.pack(os.lseek(self._handle(number).fd, offset, whence))

    def _copy_file_range(self, _head: Head, data: memoryview) -> Result:
        number, offset, _, number_out, offset_out, length, _ = abi.COPY_FILE_RANGE_IN.unpack_from(
            data
        )
        source, target = self._handle(number), self._handle(number_out)
        if target.node.checkout.refuse_writes:
            return int(target.node.checkout.refuse_writes)
        copied = os.copy_file_range(
            source.fd, target.fd, min(length, _MAX_COPY_BYTES), offset, offset_out
        )
        with self._lock:
            target.node.checkout.touched(target.node)
        return abi.WRITE_OUT.pack(copied, 0)

    def _statfs(self, _head: Head, _data: memoryview) -> Result:
        v = os.statvfs(self._state_folder)
        return abi.STATFS_OUT.pack(
            v.f_blocks, v.f_bfree, v.f_bavail, v.f_files, v.f_ffree, v.f_bsize, 255, v.f_frsize, 0
        )

    # -- directories: without OPENDIR (answered ENOSYS, so that opening one costs nothing) there is no
    # handle to freeze a listing on. A node's cookie is its place for as long as it has its name.

    def _listing(self, nodeid: int, offset: int) -> list[Node]:
        """What follows the cookie ``offset`` in a directory."""
        node = self._node(nodeid)
        if node.checkout is not None and node.checkout.refuse_reads:
            raise refused(node.checkout.refuse_reads)
        nodes = self._listings.get(nodeid) if offset else None
        if nodes is None:
            children = node.children if node.checkout is None else node.checkout.children(node)
            nodes = list((children or {}).values())
            self._listings.pop(nodeid, None)
            self._listings[nodeid] = nodes
            if len(self._listings) > _KEPT_LISTINGS:
                del self._listings[next(iter(self._listings))]
        if offset == 0:
            return nodes
        return nodes[bisect_right(nodes, offset, key=_COOKIE) :]

    def _readdir(self, head: Head, data: memoryview) -> Result:
        _, offset, size, *_ = abi.READ_IN.unpack_from(data)
        out: list[bytes] = []
        for node in self._listing(head[NODEID], offset):
            name = node.name
            pad = -len(name) % 8
            size -= 24 + len(name) + pad
            if size < 0:
                break
            out += (
                abi.DIRENT.pack(node.ino, node.cookie, len(name), node.mode >> 12),
                name,
                bytes(pad),
            )
        return b"".join(out)

    def _readdirplus(self, head: Head, data: memoryview) -> Result:
        _, offset, size, *_ = abi.READ_IN.unpack_from(data)
        out: list[bytes] = []
        pack, entry = abi.DIRENT.pack, self._entry
        for node in self._listing(head[NODEID], offset):
            name = node.name
            pad = -len(name) % 8
            size -= 152 + len(name) + pad
            if size < 0:
                break
            if node.parent is None and not self._is_root(node):
                continue  # unlinked since the listing was frozen
            out += (
                entry(node),
                pack(node.ino, node.cookie, len(name), node.mode >> 12),
                name,
                bytes(pad),
            )
        return b"".join(out)

    def _is_root(self, node: Node) -> bool:
        return node.checkout is not None and node is node.checkout.root
