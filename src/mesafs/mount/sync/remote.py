"""The server as a checkout's ports see it: patient for a stated time, then clear.

A read that needs the network waits at most ``READ_SECONDS`` while the server does not answer. Once it
is known to be away, further reads try once and fail, so that a search through a thousand files that
are not here does not wait a thousand times.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar

from mesafs.base.clock import Clock
from mesafs.base.errors import Conflict, Denied, MesaError, Unauthenticated, Unavailable
from mesafs.checkout.publishing import MISSING_OBJECTS
from mesafs.model.ids import BlobId, CheckoutId, CommitId, RepositoryId, TreeId
from mesafs.sdk.errors import MissingObjects
from mesafs.sdk.sync_api import SyncApi
from mesafs.wire.sync import (
    ListedEntry,
    PublishAnswer,
    PublishRequest,
    decode_trees,
)

READ_SECONDS = 10.0
_DEPTH = 64
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_KNOWN_AWAY_SECONDS = 5.0

T = TypeVar("T")


class Server:
    """The current API of a mount, replaced when its credential is; shared by all its checkouts."""

    def __init__(self, api: SyncApi, patient: SyncApi, clock: Clock) -> None:
        self.api = api
        #: The same with longer time limits: a server takes a while to check a large pack.
        self.patient = patient
        self._clock = clock
        self._away_until = 0.0
        self._stopping = threading.Event()
        #: Told of every refusal of the credential.
        self.on_refused: Callable[[MesaError], None] = lambda error: None
        #: Why the server could not be reached last, None while it can.
        self.unreachable: str | None = None

    def stop(self) -> None:
        """Let nobody wait any longer."""
        self._stopping.set()

    def call(self, action: Callable[[SyncApi], T], *, seconds: float, patiently: bool = False) -> T:
        """Run ``action``, again while the server does not answer, for at most ``seconds``."""
        deadline = self._clock.monotonic() + seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                result = action(self.patient if patiently else self.api)
            except Unavailable as error:
                self.unreachable = error.message
                now = self._clock.monotonic()
                known_away = now < self._away_until
                self._away_until = now + _KNOWN_AWAY_SECONDS
                if known_away or now + pause > deadline or self._stopping.is_set():
                    raise
                self._clock.wait(self._stopping, pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except (Unauthenticated, Denied) as error:
                self.on_refused(error)
                raise
            else:
                self.reached()
                return result

    def reached(self) -> None:
        """The server answered."""
        self.unreachable = None
        self._away_until = 0.0


class RemoteObjects:
    """Objects of one repository, from the server."""

    def __init__(self, server: Server, repository: RepositoryId) -> None:
        self._server = server
        self._repository = repository

    def trees(
        self, roots: Sequence[TreeId], *, max_bytes: int
    ) -> Iterable[tuple[TreeId, list[ListedEntry]]]:
        body = self._server.call(
            lambda api: api.trees(self._repository, roots, depth=_DEPTH, max_bytes=max_bytes),
            seconds=READ_SECONDS,
        )
        return decode_trees(body)

    def blobs(self, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, int | None, Any]]:
        """Only the first answer is retried: what was received is kept, and asked for no more."""
        left = list(ids)
        frames = self._server.call(
            lambda api: _started(api.blobs(self._repository, left)), seconds=READ_SECONDS
        )
        first, rest = frames
        if first is not None:
            yield first
        yield from rest

    def conflict_texts(
        self, commit: CommitId, paths: Sequence[bytes]
    ) -> Iterable[tuple[bytes, bytes]]:
        found = self._server.call(
            lambda api: list(api.conflicts(self._repository, commit, paths)), seconds=READ_SECONDS
        )
        return [(path, text) for path, blob, text in found if blob is not None]


class RemotePublisher:
    """Where one checkout publishes. Tries once: its worker decides when to try again."""

    def __init__(self, server: Server, repository: RepositoryId, checkout: CheckoutId) -> None:
        self._server = server
        self._repository = repository
        self._checkout = checkout

    def upload(self, pack: BinaryIO) -> None:
        def send(api: SyncApi) -> None:
            pack.seek(0)
            api.upload_pack(self._repository, self._checkout, pack)

        self._server.call(send, seconds=0, patiently=True)

    def publish(self, request: PublishRequest) -> PublishAnswer:
        try:
            return self._server.call(
                lambda api: api.publish(self._repository, request), seconds=0, patiently=True
            )
        except MissingObjects as error:
            raise Conflict(error.message, code=MISSING_OBJECTS) from error


def _started(
    frames: Iterator[tuple[BlobId, int | None, Any]],
) -> tuple[tuple[BlobId, int | None, Any] | None, Iterator[tuple[BlobId, int | None, Any]]]:
    """The first frame read into memory if it is small, so that the request is known to succeed."""
    with suppress(StopIteration):
        blob, size, reader = next(frames)
        if size is not None and size <= 1 << 20:
            content = bytearray()
            while piece := reader.read(size - len(content)):
                content += piece
            return (blob, size, io.BytesIO(bytes(content))), frames
        return (blob, size, reader), frames
    return None, frames
