"""The server as the ports of a checkout: objects come from there, snapshots go there."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Protocol, TypeVar

from mesafs.base.errors import Conflict
from mesafs.checkout.publishing import MISSING_OBJECTS
from mesafs.model.ids import BlobId, CheckoutId, CommitId, RepositoryId, TreeId
from mesafs.sdk.errors import MissingObjects
from mesafs.sdk.sync_api import SyncApi
from mesafs.wire.sync import ListedEntry, PublishAnswer, PublishRequest, decode_trees

READ_SECONDS = 10.0
_DEPTH = 64

T = TypeVar("T")


class Caller(Protocol):
    """Runs a call, again while the server does not answer, for at most ``seconds``."""

    def call(
        self, action: Callable[[SyncApi], T], *, seconds: float, patiently: bool = False
    ) -> T: ...


class DirectCaller:
    """Runs each call once."""

    def __init__(self, api: SyncApi) -> None:
        self._api = api

    def call(self, action: Callable[[SyncApi], T], *, seconds: float, patiently: bool = False) -> T:
        del seconds, patiently  # the transport has its own patience
        return action(self._api)


class RemoteObjects:
    """Objects of one repository, from the server."""

    def __init__(self, server: Caller, repository: RepositoryId) -> None:
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

    def __init__(self, server: Caller, repository: RepositoryId, checkout: CheckoutId) -> None:
        self._server = server
        self._repository = repository
        self._checkout = checkout

    def upload(self, pack: BinaryIO) -> None:
        def send(api: SyncApi) -> None:
            pack.seek(0)
            api.upload_pack(self._repository, self._checkout, pack)

        try:
            self._server.call(send, seconds=0, patiently=True)
        except MissingObjects as error:
            raise Conflict(error.message, code=MISSING_OBJECTS) from error

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
