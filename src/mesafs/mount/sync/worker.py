"""Keeps one checkout and its bookmark together: publishes edits, follows the server.

One thread, so a publish and an adoption never meet. It publishes when programs have been quiet for
200 ms, and at the latest so early that no edit stays unpublished for longer than two seconds. A large
file that keeps changing waits until it is quiet for two seconds, or for thirty at most.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mesafs.base.clock import Clock
from mesafs.base.errors import ErrorKind, Exhausted, MesaError, Unavailable
from mesafs.checkout.adoption import restate, settle
from mesafs.checkout.checkout import Checkout, signature
from mesafs.checkout.nodes import ContentSignature
from mesafs.checkout.ports import Objects, Publisher
from mesafs.checkout.publishing import follow, publish
from mesafs.model.ids import PublishId
from mesafs.wire.sync import RepositoryState

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.2
LATEST_START_SECONDS = 1.2
_TICK_SECONDS = 0.05
_POLL_OPEN_FILES_SECONDS = 0.2
_COMPACT_SECONDS = 30.0
_JOURNAL_BYTES = 4 << 20
_LARGE_BYTES = 16 << 20
_LARGE_QUIET_SECONDS = 2.0
_LARGE_LATEST_SECONDS = 30.0
_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_FREE_BYTES_WANTED = 64 << 20


@dataclass(slots=True)
class _LargeFile:
    seen: ContentSignature
    changed_at: float
    published_at: float


class Worker:
    """The thread of one checkout."""

    def __init__(
        self,
        name: str,
        checkout: Checkout,
        objects: Objects,
        publisher: Publisher,
        *,
        clock: Clock,
        new_id: Callable[[], PublishId],
    ) -> None:
        self.name = name
        self.checkout = checkout
        self._objects = objects
        self._publisher = publisher
        self._clock = clock
        self._new_id = new_id
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._turn = threading.Condition()
        self._turns_asked = 0
        self._turns_done = 0
        self._turn_error: BaseException | None = None
        self._remote: RepositoryState | None = None
        self._published_number = checkout.journal.number if not checkout.is_dirty() else -1
        self._generation_path = checkout.journal.path
        self._large: dict[int, _LargeFile] = {}
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=f"sync-{name}", daemon=True)
        #: What keeps edits from the server, for ``mesa status``; None when nothing does.
        self.problem: str | None = None
        #: When the oldest unpublished edit was made, by the monotonic clock.
        self.dirty_since: float | None = None
        checkout.on_edit = self.edited

    def start(self) -> None:
        self._thread.start()
        if self.checkout.is_dirty() or self.checkout.pending is not None:
            self.edited()

    def edited(self) -> None:
        """There is something to publish. Called with the lock held, so it does next to nothing."""
        if not self._wake.is_set():
            self._wake.set()

    def moved(self, state: RepositoryState) -> None:
        """The server says where the bookmark is."""
        self._remote = state
        self._wake.set()

    def sync(self, *, seconds: float) -> None:
        """Return once the server has every edit made before the call; raise what prevents it."""
        with self._turn:
            self._turns_asked += 1
            mine = self._turns_asked
            self._wake.set()
            if not self._turn.wait_for(lambda: self._turns_done >= mine, timeout=seconds):
                raise Unavailable(
                    f"{self.name} is not published after {seconds:g} seconds",
                    hint="edits are kept in the journal; `mesa status` says what is missing",
                )
            if isinstance(self._turn_error, MesaError):
                raise self._turn_error
            if self._turn_error is not None:
                raise Unavailable(
                    f"{self.name} could not be published: {self._turn_error}",
                    hint="edits are kept in the journal; `mesa logs` has the whole story",
                ) from self._turn_error

    def stop(self) -> None:
        """End the thread; what is under way ends first."""
        self._stop.set()
        self._wake.set()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def unpublished(self) -> int:
        """How many files and directories the server may not have as they are."""
        checkout = self.checkout
        with checkout.lock:
            changed = sum(1 for node in checkout.writing.values() if self._has_changed(node.ino))
            edited = len(checkout.edited_files) + changed
            return edited or int(checkout.root.edited or checkout.pending is not None)

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait(self._pause())
            if self._stop.is_set():
                return
            self._compact()
            asked = self._turns_asked
            self._wake.clear()
            try:
                if asked == self._turns_done and not self._is_due():
                    continue
                if asked == self._turns_done:
                    self._wait_for_quiet()
                self._work(forced=asked != self._turns_done)
            except Exception as error:  # noqa: BLE001 - the thread must outlive a failed publish
                understood = self._understood(error)
                self._failed(understood)
                self._answer(asked, understood)
            else:
                self._succeeded()
                self._answer(asked, None)

    def _pause(self) -> float:
        if self._failures:
            return _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS)) - 1]
        if self.checkout.edited_files or self.checkout.pending is not None:
            return _TICK_SECONDS
        if self.checkout.unstated:
            return _RETRY_SECONDS[-1]
        if self.checkout.writing:
            return _POLL_OPEN_FILES_SECONDS
        return _COMPACT_SECONDS

    def _compact(self) -> None:
        """State anew what a long journal says: edits that stay local are published by nobody."""
        checkout = self.checkout
        limit = max(_JOURNAL_BYTES, 2 * checkout.journal.opening_bytes)
        if not checkout.unstated and checkout.journal.size_bytes < limit:
            return
        try:
            restate(checkout)
            settle(checkout)
        except (OSError, MesaError) as error:
            log.warning("%s: the journal could not be shortened: %s", self.name, error)

    def _answer(self, asked: int, error: BaseException | None) -> None:
        with self._turn:
            self._turns_done = asked
            self._turn_error = error
            self._turn.notify_all()

    def _is_due(self) -> bool:
        checkout = self.checkout
        remote = self._remote
        return (
            bool(checkout.edited_files)
            or checkout.root.edited
            or checkout.pending is not None
            or (remote is not None and remote.commit != checkout.base.commit)
            or any(self._has_changed(ino) for ino in list(checkout.writing))
        )

    def _has_changed(self, ino: int) -> bool:
        node = self.checkout.writing.get(ino)
        if node is None:
            return False
        try:
            return signature(self.checkout.overlay.path(ino)) != node.published
        except FileNotFoundError:
            return False

    def _wait_for_quiet(self) -> None:
        began = last = self._clock.monotonic()
        if self.dirty_since is None:
            self.dirty_since = began
        seen = self._activity()
        while self._turns_asked == self._turns_done:
            self._clock.wait(self._stop, _TICK_SECONDS)
            now, activity = self._clock.monotonic(), self._activity()
            if activity != seen:
                seen, last = activity, now
            if now - last >= QUIET_SECONDS or now - began >= LATEST_START_SECONDS:
                return
            if self._stop.is_set():
                return

    def _activity(self) -> tuple[object, ...]:
        checkout = self.checkout
        open_files = []
        for ino in list(checkout.writing):
            try:
                open_files.append(signature(checkout.overlay.path(ino)))
            except FileNotFoundError:
                continue
        return (checkout.journal.path, checkout.journal.number, *open_files)

    def _work(self, *, forced: bool) -> None:
        checkout, remote = self.checkout, self._remote
        hold_back = set() if forced else self._held_back()
        self._measure()
        if (
            checkout.is_dirty()
            or checkout.pending is not None
            or self._open_files_changed(hold_back)
        ):
            publish(checkout, self._publisher, self._objects, self._new_id, hold_back=hold_back)
            self._note_large(hold_back)
        remote = self._remote
        if remote is not None and self._is_news(remote):
            if checkout.is_dirty():
                self._wake.set()  # an edit came in between: it is merged first
                return
            follow(checkout, self._objects, remote)
        if self._remote is remote:
            self._remote = None

    def _is_news(self, state: RepositoryState) -> bool:
        """Whether a state is one to move to, not one that this checkout has come past.

        An operation that is extended keeps its number, so the number alone does not tell.
        """
        base = self.checkout.base
        if state.commit == base.commit:
            return False
        if state.epoch != base.epoch or state.operation > base.operation:
            return True
        return state.operation == base.operation and state.commit not in self.checkout.left

    def _open_files_changed(self, hold_back: set[int]) -> bool:
        return any(
            self._has_changed(ino) for ino in list(self.checkout.writing) if ino not in hold_back
        )

    def _held_back(self) -> set[int]:
        """Large open files that changed within the last two seconds and were published lately."""
        now = self._clock.monotonic()
        held: set[int] = set()
        for ino in list(self.checkout.writing):
            try:
                seen = signature(self.checkout.overlay.path(ino))
            except FileNotFoundError:
                continue
            if seen[2] < _LARGE_BYTES:
                continue
            known = self._large.get(ino)
            if known is None:
                known = self._large[ino] = _LargeFile(seen, now, now)
            elif known.seen != seen:
                known.seen, known.changed_at = seen, now
            quiet = now - known.changed_at >= _LARGE_QUIET_SECONDS
            if not quiet and now - known.published_at < _LARGE_LATEST_SECONDS:
                held.add(ino)
        for ino in self._large.keys() - self.checkout.writing.keys():
            del self._large[ino]
        return held

    def _note_large(self, hold_back: set[int]) -> None:
        for ino, known in self._large.items():
            if ino not in hold_back:
                known.published_at = self._clock.monotonic()

    def _measure(self) -> None:
        """Count the overlay, and let the cache give way before the disk is full."""
        checkout = self.checkout
        total = 0
        for ino in list(checkout.materialised):
            try:
                total += os.stat(checkout.overlay.path(ino)).st_blocks << 9
            except FileNotFoundError:
                continue
        checkout.used_bytes = total
        status = os.statvfs(checkout.journal.directory)
        if status.f_bavail * status.f_frsize < _FREE_BYTES_WANTED:
            checkout.cache.give_up()

    def _understood(self, error: Exception) -> Exception:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return Exhausted(
                f"the disk under {self.checkout.journal.directory} is full",
                hint="free some of it; edits are kept, and published then",
            )
        return error

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if isinstance(error, MesaError):
            message = error.message
            # Nothing to retry by itself until somebody acts: a new credential wakes this thread.
            if error.kind in {ErrorKind.UNAUTHENTICATED, ErrorKind.DENIED}:
                self._failures = len(_RETRY_SECONDS)
            log.warning("%s: not published: %s", self.name, message)
        else:
            message = f"{type(error).__name__}: {error}"
            log.error("%s: a bug kept edits from being published", self.name, exc_info=error)
        self.problem = message

    def _succeeded(self) -> None:
        self._failures = 0
        self.problem = None
        if not self.checkout.is_dirty():
            self.dirty_since = None
