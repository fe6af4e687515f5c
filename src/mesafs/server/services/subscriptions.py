"""Who watches which bookmarks, and what each of them is told next.

A subscription remembers only *which* repositories moved, never each move: a reader that is slow gets
the newest state and nothing piles up. It ends with a reason when its credential, or what that grants,
is not any more what it was when the stream began.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from sqlalchemy import Connection, func, select

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import Exhausted, Invalid, NotFound, Unauthenticated
from mesafs.model.ids import ApiKeyId, RepositoryId
from mesafs.server.backing import Backing
from mesafs.server.services.principals import Principals
from mesafs.server.services.repositories import find_by_id
from mesafs.server.services.states import state_of
from mesafs.store import schema
from mesafs.store.catalogue import Event
from mesafs.wire.sync import RepositoryState

MAX_WATCHED = 1000
MAX_STREAMS_PER_KEY = 200
_SECOND = 1_000_000_000

Reason = Literal["revoked", "expired", "narrowed", "deleted", "shutdown"]
_WORDS: dict[Reason, str] = {
    "revoked": "the API key was revoked",
    "expired": "the credential has expired",
    "narrowed": "the credential does not grant any more what it granted",
    "deleted": "a watched repository or bookmark was deleted",
    "shutdown": "the server is shutting down",
}


class TooManyStreams(Exhausted):
    default_code: ClassVar[str | None] = "LIMIT_EXCEEDED"

    def __init__(self) -> None:
        super().__init__(
            f"this API key has {MAX_STREAMS_PER_KEY} event streams open",
            hint="close some, or use another key",
        )


@dataclass(frozen=True, slots=True)
class Moved:
    """A watched bookmark stands here now. ``number`` rises within a stream."""

    number: int
    state: RepositoryState


@dataclass(frozen=True, slots=True)
class Closed:
    reason: Reason

    @property
    def message(self) -> str:
        return _WORDS[self.reason]


class Subscriptions:
    """All open streams of this server."""

    def __init__(self, backing: Backing, principals: Principals) -> None:
        self._backing = backing
        self._principals = principals
        self._open: Counter[ApiKeyId] = Counter()
        self._lock = threading.Lock()

    def open(
        self,
        principal: Principal,
        credential: str,
        watched: Sequence[tuple[RepositoryId, str | None]],
        wake: Callable[[], None],
    ) -> Subscription:
        """Begin to watch. ``wake`` is called, from any thread, when :meth:`Subscription.due` is due."""
        if not 1 <= len(watched) <= MAX_WATCHED:
            raise Invalid(f"repositories must name 1 to {MAX_WATCHED} repositories")
        if len({repository for repository, _ in watched}) != len(watched):
            raise Invalid("repositories names one twice")
        with self._backing.catalogue.read() as connection:
            for repository, bookmark in watched:
                row = find_by_id(connection, principal, Scope.READ, repository)
                state_of(connection, row, bookmark)
        with self._lock:
            if self._open[principal.key_id] >= MAX_STREAMS_PER_KEY:
                raise TooManyStreams
            self._open[principal.key_id] += 1
        return Subscription(
            self._backing, self._principals, principal, credential, watched, wake, self._ended
        )

    def _ended(self, key: ApiKeyId) -> None:
        with self._lock:
            self._open[key] -= 1
            if self._open[key] == 0:
                del self._open[key]


class Subscription:
    """One stream's view. :meth:`due` is called by one thread at a time; close it in the end."""

    def __init__(
        self,
        backing: Backing,
        principals: Principals,
        principal: Principal,
        credential: str,
        watched: Sequence[tuple[RepositoryId, str | None]],
        wake: Callable[[], None],
        ended: Callable[[ApiKeyId], None],
    ) -> None:
        self._backing = backing
        self._principals = principals
        self._principal = principal
        self._credential = credential
        self._bookmarks = dict(watched)
        self._wake = wake
        self._ended = ended
        self._lock = threading.Lock()
        self._moved = set(self._bookmarks)
        self._told: dict[RepositoryId, RepositoryState] = {}
        self._number = 0
        self._closed = False
        self._forget = (
            backing.catalogue.subscribe(self._notice),
            backing.shutdown.subscribe(wake),
        )

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for forget in self._forget:
                forget()
            self._ended(self._principal.key_id)

    def seconds_left(self) -> float | None:
        """Until the credential ends by itself, or None if it does not."""
        ends = self._principal.expires_at_seconds
        return None if ends is None else ends - self._backing.clock.now_ns() / _SECOND

    def due(self) -> tuple[list[Moved], Closed | None]:
        """What is to be told now: each bookmark that stands elsewhere than it was last told, and the end."""
        if self._backing.shutdown.begun:
            return [], Closed("shutdown")
        reason = self._objection()
        if reason is not None:
            return [], Closed(reason)
        with self._lock:
            moved, self._moved = self._moved, set()
        told: list[Moved] = []
        with self._backing.catalogue.read() as connection:
            for repository in sorted(moved):
                try:
                    found = self._state(connection, repository)
                except NotFound:
                    return told, Closed("deleted")
                if found is not None:
                    told.append(found)
        return told, None

    def _state(self, connection: Connection, repository: RepositoryId) -> Moved | None:
        row = find_by_id(connection, self._principal, Scope.READ, repository)
        state = state_of(connection, row, self._bookmarks[repository])
        before = self._told.get(repository)
        if before is not None and _place(before) == _place(state):
            return None
        self._told[repository] = state
        newest = connection.execute(
            select(func.max(schema.events.c.id)).where(schema.events.c.repo_id == repository)
        ).scalar_one()
        self._number = max(self._number, newest or 0)
        return Moved(self._number, state)

    def _objection(self) -> Reason | None:
        """Why the credential no longer carries this stream."""
        left = self.seconds_left()
        if left is not None and left <= 0:
            return "expired"
        try:
            now = self._principals.principal_for(self._credential)
        except Unauthenticated:
            return "revoked"
        before = self._principal
        if (now.scopes, now.repositories) != (before.scopes, before.repositories):
            gone = [each for each in self._bookmarks if not now.sees(each)]
            if now.scopes == before.scopes and gone and self._buried(gone):
                return "deleted"
            return "narrowed"
        return None

    def _buried(self, repositories: list[RepositoryId]) -> bool:
        """Whether one is gone, which also takes it out of a token that named it."""
        with self._backing.catalogue.read() as connection:
            return any(
                connection.execute(
                    select(schema.repositories.c.deleted_ns).where(
                        schema.repositories.c.id == repository
                    )
                ).scalar_one_or_none()
                is not None
                for repository in repositories
            )

    def _notice(self, events: Sequence[Event]) -> None:
        """Runs on the catalogue's writer thread."""
        due = False
        for event in events:
            if event.repository is None:
                due = due or event.payload.get("key") == self._principal.key_id
            elif event.repository in self._bookmarks:
                with self._lock:
                    self._moved.add(RepositoryId(event.repository))
                due = True
        if due:
            self._wake()


def _place(state: RepositoryState) -> tuple[object, ...]:
    return (state.bookmark, state.change, state.commit, state.name, state.epoch)
