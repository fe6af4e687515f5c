"""Requests that wait for something other than the kernel: the network, the disk's flush.

Invariant: putting work here never blocks. The queue needs no bound of its own, because each item is
one request whose caller is asleep, and background requests are bounded by ``max_background``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

Head = tuple[int, int, int, int, int, int, int, int, int]
_UNIQUE = 2


class Deferred:
    """A handler's answer when it has to wait: ``work`` runs on the pool, its result is the reply.

    ``work`` may return another Deferred and may raise what a handler may raise. Give ``cancelled``
    when an interrupted caller shall not wait for it: the event is set when the kernel says that the
    caller was signalled, and ``work`` then raises InterruptedError(errno.EINTR, ...) at its next
    chance; if it has not begun, the caller gets EINTR at once and ``work`` never runs.
    """

    # No cycles: ``work`` gets the event from its own closure, not from the Deferred.
    __slots__ = ("cancelled", "work")

    def __init__(self, work: Callable[[], Any], cancelled: threading.Event | None = None) -> None:
        self.work = work
        self.cancelled = cancelled


class Pool:
    """A few threads, started when first needed. ``run`` and ``interrupted`` write the reply."""

    def __init__(
        self,
        threads: int,
        *,
        run: Callable[[Head, Deferred], None],
        interrupted: Callable[[Head], None],
    ) -> None:
        self._limit = threads
        self._run = run
        self._interrupted = interrupted
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[tuple[Head, Deferred]] = deque()
        self._running: dict[int, Deferred] = {}
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._stopped = False

    def put(self, head: Head, deferred: Deferred) -> None:
        with self._changed:
            self._waiting.append((head, deferred))
            if len(self._waiting) > self._idle and len(self._threads) < self._limit:
                thread = threading.Thread(
                    target=self._work, name=f"fuse-wait-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def interrupt(self, unique: int) -> None:
        """The caller of ``unique`` was signalled; unknown ones have been answered already."""
        with self._changed:
            running = self._running.get(unique)
            found = None
            if running is None:
                found = next((item for item in self._waiting if item[0][_UNIQUE] == unique), None)
                if found is not None and found[1].cancelled is not None:
                    self._waiting.remove(found)
        if running is not None and running.cancelled is not None:
            running.cancelled.set()
        elif found is not None and found[1].cancelled is not None:
            found[1].cancelled.set()
            self._interrupted(found[0])

    def stop(self) -> None:
        """Take no more work: callers of what is waiting are gone with the mount."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            running = list(self._running.values())
            self._changed.notify_all()
        for deferred in running:
            if deferred.cancelled is not None:
                deferred.cancelled.set()

    def join(self, timeout: float) -> bool:
        for thread in self._threads:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                self._idle -= 1
                if not self._waiting:
                    return
                head, deferred = self._waiting.popleft()
                self._running[head[_UNIQUE]] = deferred
            try:
                self._run(head, deferred)
            finally:
                with self._changed:
                    del self._running[head[_UNIQUE]]
                del deferred
