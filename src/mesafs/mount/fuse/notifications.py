"""Telling the kernel what to forget, from one thread that owes nobody an answer.

The kernel may hold the lock of the very directory a notification names until one of our handlers
has answered, so writing one can last as long as our slowest answer. Hence the invariant: a
notification is only ever written by this thread, which takes no lock that a handler takes; callers
put into a queue and go on. Whoever needs "the kernel has forgotten" queues a marker behind.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

from mesafs.mount.fuse import abi

_Item = bytes | Callable[[], None] | None

#: The kernel does not know that name or inode (the wanted state), or a directory is still in use.
_HARMLESS = {errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR}
_GONE = {errno.ENODEV, errno.ECONNABORTED, errno.EBADF, errno.EPIPE, errno.ECONNRESET}


class Notifier:
    """The queue and its thread. Every method returns at once and may be called from anywhere."""

    def __init__(self, fd: int, *, epoch: bool, log: logging.Logger) -> None:
        self._fd = fd
        self._log = log
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._sent = 0
        #: Whether the kernel has INC_EPOCH; set when INIT is answered.
        self.has_epoch = epoch

    @property
    def sent(self) -> int:
        """How many notifications were written so far."""
        return self._sent

    def start(self) -> None:
        self._thread = threading.Thread(target=self._drain, name="fuse-notify", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what is queued; not waited for, since it may wait for the kernel."""
        self._queue.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end, at most ``timeout`` seconds; never call it from a handler."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def inval_inode(self, nodeid: int, offset: int = 0, length: int = 0) -> None:
        """Forget content and attributes; a negative ``offset`` leaves the content."""
        self._put(abi.Notify.INVAL_INODE, abi.NOTIFY_INVAL_INODE.pack(nodeid, offset, length))

    def inval_entry(self, parent: int, name: bytes, *, expire: bool = False) -> None:
        """Forget a name, cached or known absent, and all below it.

        With ``expire`` it is asked for again at its next use, and working directories inside stay
        valid. A listing of the directory needs ``inval_inode(parent)`` besides.
        """
        flags = abi.INVAL_ENTRY_EXPIRE_ONLY if expire else 0
        head = abi.NOTIFY_INVAL_ENTRY.pack(parent, len(name), flags)
        self._put(abi.Notify.INVAL_ENTRY, head + name + b"\0")

    def delete_entry(self, parent: int, child: int, name: bytes) -> None:
        """Forget a name because the file is gone: watchers of the file are told."""
        head = abi.NOTIFY_DELETE.pack(parent, child, len(name), 0)
        self._put(abi.Notify.DELETE, head + name + b"\0")

    def store(self, nodeid: int, offset: int, data: bytes) -> None:
        """Put ``data`` into the page cache. It does not change the size that a stat shows."""
        head = abi.NOTIFY_STORE.pack(nodeid, offset, len(data), 0)
        self._put(abi.Notify.STORE, head + data)

    def increment_epoch(self) -> bool:
        """Have every cached name asked for again; False when this kernel cannot and the caller must
        name what changed.
        """
        if self.has_epoch:
            self._put(abi.Notify.INC_EPOCH, b"")
        return self.has_epoch

    def resend(self) -> None:
        """Have the kernel repeat what an earlier worker read and did not answer."""
        self._put(abi.Notify.RESEND, b"")

    def marker(self, reached: Callable[[], None]) -> None:
        """Call ``reached`` on the notifying thread when all that was queued before is with the kernel."""
        self._queue.put(reached)

    def _put(self, code: abi.Notify, payload: bytes) -> None:
        size = abi.OUT_HEADER_SIZE + len(payload)
        self._queue.put(abi.OUT_HEADER.pack(size, code, 0) + payload)

    def _drain(self) -> None:
        alive = True
        while (item := self._queue.get()) is not None:
            if not isinstance(item, bytes):
                self._reach(item)
            elif alive:
                alive = self._write(item)

    def _write(self, message: bytes) -> bool:
        try:
            os.write(self._fd, message)
        except OSError as error:
            if error.errno in _GONE:
                return False
            if error.errno not in _HARMLESS:
                code = abi.OUT_HEADER.unpack_from(message)[1]
                self._log.warning("notification %s refused by the kernel: %s", code, error)
        else:
            self._sent += 1
        return True

    def _reach(self, reached: Callable[[], None]) -> None:
        try:
            reached()
        except Exception:  # noqa: BLE001 - a marker's bug must not end the notifications
            self._log.exception("a marker behind notifications failed")
