"""One connection to the kernel: reads requests, dispatches them, answers each exactly once.

Invariant: whatever a handler does, its request gets one reply (except those that have none) and
the loop goes on. A handler that must wait answers with :class:`Deferred`; the thread that reads
never waits for anything but the kernel, so a READ that waits for the network delays no LOOKUP.

The loop is short on purpose: a request costs a few microseconds and there are thousands in a
``git status``. Nothing is added to it that a test does not ask for.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import logging
import os
import select
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesafs.base.errors import ERRNO, ErrorKind, MesaError
from mesafs.mount.fuse import abi
from mesafs.mount.fuse.deferred import Deferred, Pool
from mesafs.mount.fuse.notifications import Notifier

#: length opcode unique nodeid uid gid pid total_extlen padding, as unpacked: a plain tuple for speed.
Head = tuple[int, int, int, int, int, int, int, int, int]
LENGTH, OPCODE, UNIQUE, NODEID, UID, GID, PID = range(7)

#: bytes: the body of the reply. list: the same in pieces. int: an errno (0: done, no body).
#: None: this request has no reply (FORGET). Deferred: the reply comes from the pool.
Result = bytes | list[bytes | memoryview] | int | None | Deferred
#: The payload view is valid only during the call: whoever needs it longer copies.
Handler = Callable[[Head, memoryview], Result]

_OLDEST_MINOR = 31  # Linux 5.4; older kernels lack what the caching relies on
_EPOCH_MINOR = 44
_RESEND_MINOR = 40
_WANTED = (
    abi.Init.ASYNC_READ
    | abi.Init.ATOMIC_O_TRUNC
    | abi.Init.BIG_WRITES
    | abi.Init.DO_READDIRPLUS
    | abi.Init.READDIRPLUS_AUTO
    | abi.Init.PARALLEL_DIROPS
    | abi.Init.ABORT_ERROR
    | abi.Init.MAX_PAGES
    | abi.Init.CACHE_SYMLINKS
    | abi.Init.EXPLICIT_INVAL_DATA
    | abi.Init.HANDLE_KILLPRIV_V2
    | abi.Init.INIT_EXT
    | abi.Init.HAS_EXPIRE_ONLY
    | abi.Init.DIRECT_IO_ALLOW_MMAP
    | abi.Init.NO_EXPORT_SUPPORT
    | abi.Init.HAS_RESEND
)
_ENDED = (errno.ENODEV, errno.ECONNABORTED)
_AGAIN = (errno.ENOENT, errno.EINTR, errno.EAGAIN)  # ENOENT: interrupted before it was read
_CALLER_GONE = (errno.ENOENT, errno.ENODEV, errno.ECONNABORTED, errno.EPIPE, errno.ECONNRESET)
_LAST_ERRNO = 511  # beyond, the kernel refuses the reply and the caller waits for ever


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What to ask of the kernel. Tests lower ``minor`` and name ``flags_off`` to be an older kernel."""

    #: Ask for passthrough; the caller has found out that it is permitted (``privileges``).
    passthrough: bool = False
    #: 1, or 2 where the overlay may lie on overlayfs (then the mount cannot be a layer itself).
    max_stack_depth: int = 1
    writeback: bool = False
    max_write_bytes: int = 1 << 20
    max_readahead_bytes: int = 1 << 20
    max_background: int = 64
    flags_on: int = 0
    flags_off: int = 0
    minor: int = abi.MINOR
    #: Threads for requests that wait.
    threads: int = 16
    #: How often to look for the next request before sleeping; 0 sleeps at once. A wake-up costs more
    #: than an answer, and requests come in bursts: a few tens of microseconds of looking (never on a
    #: single CPU, where the caller needs it) halve the time of each request of a burst.
    looks: int = 0
    #: Take the garbage collector off the path of requests; for a process that is nothing but a mount.
    settle_memory: bool = False


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What kernel and session agreed on."""

    minor: int
    kernel_minor: int
    flags: int
    passthrough: bool
    writeback: bool
    resend: bool
    epoch: bool


class Session:
    """Owns ``fd``, an open ``/dev/fuse`` with a mount behind it."""

    def __init__(
        self,
        fd: int,
        table: Sequence[Handler | None],
        *,
        options: SessionOptions,
        log: logging.Logger,
    ) -> None:
        self.fd = fd
        self.options = options
        self.negotiated: Negotiated | None = None
        #: Set once INIT is answered: only now may anyone of ours touch the mount.
        self.initialised = threading.Event()
        #: Requests so far, by opcode.
        self.counts = [0] * abi.TABLE_SIZE
        self.notifications = Notifier(fd, epoch=False, log=log)
        self._log = log
        self._pool = Pool(options.threads, run=self._run, interrupted=self._interrupted)
        self._table: list[Handler | None] = [*table, *[None] * abi.TABLE_SIZE][: abi.TABLE_SIZE]
        self._table[abi.Opcode.INIT] = self._init
        self._table[abi.Opcode.INTERRUPT] = self._interrupt
        for opcode in (abi.Opcode.FORGET, abi.Opcode.BATCH_FORGET, abi.Opcode.NOTIFY_REPLY):
            self._table[opcode] = self._table[opcode] or _no_reply
        self._table[abi.Opcode.DESTROY] = self._table[abi.Opcode.DESTROY] or _done

    def requests(self) -> dict[str, int]:
        """Requests so far by name, those never seen left out."""
        return {
            abi.Opcode(opcode).name.lower(): count
            for opcode, count in enumerate(self.counts)
            if count and opcode in abi.Opcode._value2member_map_
        }

    def serve(self) -> None:
        """Answer requests until the mount is gone; returns at unmount, abort or a closed device."""
        self.notifications.start()
        if self.options.settle_memory:
            gc.collect()
            gc.freeze()
            gc.set_threshold(100_000, 50, 100)
        try:
            self._loop()
        finally:
            self._pool.stop()
            self.notifications.stop()

    def close(self, timeout: float = 5.0) -> bool:
        """Close the descriptor once no thread can write to it any more.

        False when a thread is still at work after ``timeout`` seconds: the descriptor then stays
        open, as its number could become somebody else's.
        """
        if not (self._pool.join(timeout) and self.notifications.join(timeout)):
            return False
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        return True

    def backing_open(self, fd: int) -> int:
        """Register ``fd`` for passthrough; the id is valid until ``backing_close``.

        The kernel opens the file anew: ``fd`` may be closed at once. One id at a time for an inode.
        """
        # A mutable buffer, or ioctl returns the buffer instead of the id.
        argument = bytearray(abi.BACKING_MAP.pack(fd, 0, 0))
        backing_id: int = fcntl.ioctl(self.fd, abi.BACKING_OPEN, argument)
        return backing_id

    def backing_close(self, backing_id: int) -> None:
        fcntl.ioctl(self.fd, abi.BACKING_CLOSE, abi.BACKING_ID.pack(backing_id))

    # ---- the loop

    def _loop(self) -> None:  # noqa: C901 - one flat loop is the point, see the module
        fd = self.fd
        buffer = bytearray(max(8192, self.options.max_write_bytes + 4096))
        view = memoryview(buffer)
        buffers = [view]
        readv, write, writev = os.readv, os.write, os.writev
        unpack, pack = abi.IN_HEADER.unpack_from, abi.OUT_HEADER.pack
        most_looks, looks = self.options.looks, 0
        waiting = select.poll()
        if most_looks:
            os.set_blocking(fd, False)
            waiting.register(fd, select.POLLIN)
        table, counts, failed, send = self._table, self.counts, self._failed, self._send
        while True:
            try:
                size = readv(fd, buffers)
                looks = 0
            except BlockingIOError:
                looks += 1
                if looks > most_looks:
                    waiting.poll()
                continue
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                if error.errno in _ENDED:
                    return
                raise
            if size < 40:
                if size == 0:
                    return
                self._log.error("a request of %d bytes is no request; ignored", size)
                continue
            head: Head = unpack(buffer)
            opcode = head[1]
            if opcode > 63 or head[0] != size or (handler := table[opcode]) is None:
                if not self._refuse(head, size):
                    return
                continue
            counts[opcode] += 1
            try:
                result = handler(head, view[40:size])
            except Exception as error:  # noqa: BLE001 - this request fails, the mount lives
                result = failed(opcode, error)
            try:
                kind = result.__class__
                if kind is bytes:
                    if len(result) < 4096:  # type: ignore[arg-type]
                        write(fd, pack(16 + len(result), 0, head[2]) + result)  # type: ignore[arg-type, operator]
                    else:
                        writev(fd, (pack(16 + len(result), 0, head[2]), result))  # type: ignore[arg-type]
                elif result is not None:
                    send(head, result)
            except OSError as error:
                if error.errno in _ENDED:
                    return
                self._unsent(head, error)

    def _refuse(self, head: Head, size: int) -> bool:
        """Answer what has no handler or contradicts itself; False when the device is gone."""
        if head[LENGTH] != size:
            self._log.error("request %d says %d bytes and has %d", head[OPCODE], head[LENGTH], size)
            code = errno.EINVAL
        else:
            code = errno.ENOSYS
            if head[OPCODE] < abi.TABLE_SIZE:
                self.counts[head[OPCODE]] += 1
        try:
            os.write(self.fd, abi.OUT_HEADER.pack(16, -code, head[UNIQUE]))
        except OSError as error:
            if error.errno in _ENDED:
                return False
            self._unsent(head, error)
        return True

    def _send(self, head: Head, result: Result) -> None:
        """Write any kind of reply; raises what the device says."""
        unique = head[UNIQUE]
        if result.__class__ is int:
            code = result if 0 <= result <= _LAST_ERRNO else errno.EIO
            os.write(self.fd, abi.OUT_HEADER.pack(16, -code, unique))
        elif isinstance(result, Deferred):
            self._pool.put(head, result)
        elif isinstance(result, bytes | bytearray | memoryview):
            os.writev(self.fd, (abi.OUT_HEADER.pack(16 + len(result), 0, unique), result))
        elif isinstance(result, list):
            size = 16 + sum(map(len, result))
            os.writev(self.fd, (abi.OUT_HEADER.pack(size, 0, unique), *result))
        elif result is not None:
            self._log.error("handler of %s answered %r", _name(head[OPCODE]), type(result))
            os.write(self.fd, abi.OUT_HEADER.pack(16, -errno.EIO, unique))

    def _unsent(self, head: Head, error: OSError) -> None:
        """The device refused a reply. A caller that is gone is nothing; the rest is our bug."""
        if error.errno in _CALLER_GONE:
            return
        self._log.error("reply to %s refused by the kernel: %s", _name(head[OPCODE]), error)
        try:  # noqa: SIM105 - not suppress(): this path is a bug's, and may be hot then
            os.write(self.fd, abi.OUT_HEADER.pack(16, -errno.EIO, head[UNIQUE]))
        except OSError:
            pass  # it was answered after all, by the kernel itself

    def _failed(self, opcode: int, error: Exception) -> int:
        """The errno for an exception of a handler; what nobody planned is EIO and in the log."""
        if isinstance(error, OSError):
            code = error.errno
            # Resolver and TLS put numbers of their own into errno.
            if code and 0 < code <= _LAST_ERRNO and type(error).__module__ not in ("socket", "ssl"):
                return code
            self._log.warning("%s failed: %s", _name(opcode), error)
            return errno.EIO
        if isinstance(error, MesaError):
            if error.kind in (ErrorKind.UNAVAILABLE, ErrorKind.CORRUPT):
                self._log.warning("%s failed: %s", _name(opcode), error)
            return ERRNO[error.kind]
        if isinstance(error, struct.error):
            self._log.warning("%s has a malformed payload: %s", _name(opcode), error)
            return errno.EINVAL
        self._log.error("bug in the handler of %s", _name(opcode), exc_info=error)
        return errno.EIO

    # ---- requests that wait

    def _run(self, head: Head, deferred: Deferred) -> None:
        """On a thread of the pool: do the work and write its reply."""
        result: Result = deferred
        while isinstance(result, Deferred):
            try:
                result = result.work()
            except Exception as error:  # noqa: BLE001 - this request fails, the mount lives
                result = self._failed(head[OPCODE], error)
        self._answer(head, result)

    def _interrupted(self, head: Head) -> None:
        self._answer(head, errno.EINTR)

    def _answer(self, head: Head, result: Result) -> None:
        try:
            self._send(head, result)
        except OSError as error:
            self._unsent(head, error)

    # ---- requests the session answers itself

    def _interrupt(self, _head: Head, payload: memoryview) -> None:
        self._pool.interrupt(abi.INTERRUPT_IN.unpack_from(payload)[0])

    def _init(self, _head: Head, payload: memoryview) -> Result:
        major, kernel_minor, readahead, flags = abi.INIT_IN.unpack_from(payload)
        if major < abi.MAJOR or (major == abi.MAJOR and kernel_minor < _OLDEST_MINOR):
            self._log.error("this kernel speaks FUSE %d.%d, too old for us", major, kernel_minor)
            return errno.EPROTO
        options = self.options
        if major > abi.MAJOR:  # the kernel asks again with ours
            return abi.INIT_OUT.pack(abi.MAJOR, options.minor, *(0,) * 11)
        if flags & abi.Init.INIT_EXT and len(payload) >= abi.INIT_IN_EXT.size:
            flags |= abi.INIT_IN_EXT.unpack_from(payload)[4] << 32
        minor = min(kernel_minor, options.minor)
        wanted = int(_WANTED) | options.flags_on
        if options.passthrough and not options.writeback:
            wanted |= abi.Init.PASSTHROUGH
        if options.writeback:
            wanted |= abi.Init.WRITEBACK_CACHE
        if self._table[abi.Opcode.OPENDIR] is None:
            wanted |= abi.Init.NO_OPENDIR_SUPPORT
        if self._table[abi.Opcode.READDIRPLUS] is None:  # its ENOSYS would reach the user
            wanted &= ~(abi.Init.DO_READDIRPLUS | abi.Init.READDIRPLUS_AUTO)
        taken = int(wanted & flags & ~options.flags_off)
        if not taken & abi.Init.INIT_EXT:
            taken &= 0xFFFFFFFF
        self.negotiated = Negotiated(
            minor=minor,
            kernel_minor=kernel_minor,
            flags=taken,
            passthrough=bool(taken & abi.Init.PASSTHROUGH),
            writeback=bool(taken & abi.Init.WRITEBACK_CACHE),
            resend=bool(taken & abi.Init.HAS_RESEND) and minor >= _RESEND_MINOR,
            epoch=minor >= _EPOCH_MINOR,
        )
        self.notifications.has_epoch = self.negotiated.epoch
        self._log.info("FUSE 7.%d (kernel 7.%d), flags %#x", minor, kernel_minor, taken)
        self.initialised.set()
        return abi.INIT_OUT.pack(
            abi.MAJOR,
            minor,
            min(readahead, options.max_readahead_bytes),
            taken & 0xFFFFFFFF,
            options.max_background,
            options.max_background * 3 // 4,
            options.max_write_bytes,
            1,  # timestamps have nanoseconds
            min(0xFFFF, options.max_write_bytes // 4096),
            0,
            taken >> 32,
            options.max_stack_depth if taken & abi.Init.PASSTHROUGH else 0,
            0,
        )


def _no_reply(_head: Head, _payload: memoryview) -> None:
    return None


def _done(_head: Head, _payload: memoryview) -> bytes:
    return b""


def _name(opcode: int) -> str:
    try:
        return abi.Opcode(opcode).name
    except ValueError:
        return f"opcode {opcode}"
