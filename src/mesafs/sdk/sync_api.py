"""Blocking client of the sync protocol, for the mount and the import.

``SyncApi(transport)``; the transport is shared between threads, each call has a connection of its own.

- ``resolve(organisation, [(name, bookmark | None), …] | None) -> Resolved``
- ``trees(repository, roots, *, depth=0, max_bytes=1 MiB) -> bytes`` (``wire.sync.decode_trees`` reads it)
- ``blobs(repository, ids) -> Iterator[(id, size | None, BlobReader)]`` in the order asked
- ``blob_range(repository, blob, start, length) -> bytes``
- ``conflicts(repository, commit, paths) -> Iterator[(path, blob id | None, text)]``
- ``upload_pack(repository, checkout, file) -> UploadedPack(pack, objects)``
- ``publish(repository, request) -> PublishAnswer``
- ``events([(repository id, bookmark), …], *, after=0) -> EventStream`` (iterate; ``close()`` from any thread)

Errors are ``base.errors`` kinds (``sdk.errors`` subclasses): Unauthenticated, Denied, NotFound,
Conflict, :class:`~mesafs.sdk.errors.MissingObjects` with ``.missing``, Exhausted, and Unavailable for
everything that is not a sound answer of a mesa server; the latter may have ``retry_after_seconds``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, TypeVar
from urllib.parse import urlencode

from mesafs.base.errors import Corrupt
from mesafs.model.ids import BlobId, CheckoutId, CommitId, RepositoryId, TreeId
from mesafs.model.paths import to_text
from mesafs.sdk.errors import Unreachable, error_of
from mesafs.sdk.event_stream import EventParser, StreamClosed, StreamEvent
from mesafs.sdk.exchange import JSON_TYPE, Request, Response, json_body, read_json, segment_of
from mesafs.sdk.transport_http import HttpTransport, OpenAnswer
from mesafs.wire.resolve import Resolved, resolve_request
from mesafs.wire.shapes import MalformedAnswer
from mesafs.wire.sync import (
    BLOBS_TYPE,
    HEARTBEAT_SECONDS,
    MAX_TREES_BYTES,
    PACK_TYPE,
    PREFIX,
    PROTOCOL_VERSION,
    TREES_TYPE,
    VERSION_HEADER,
    PublishAnswer,
    PublishRequest,
    blobs_request,
    decode_blobs,
    trees_request,
)

T = TypeVar("T")

_VERSION = {VERSION_HEADER: str(PROTOCOL_VERSION)}
_MAX_EVENT_LINE_BYTES = 16 << 20
_COPY_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class UploadedPack:
    pack: str
    objects: int


class BlobReader(Protocol):
    def read(self, size: int) -> bytes:
        """At most ``size`` bytes of this blob, none at its end."""
        ...


class SyncApi:
    """One server, one credential, every repository that it may see."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    def resolve(
        self, organisation: str, repositories: Iterable[tuple[str, str | None]] | None
    ) -> Resolved:
        """Turn names into ids and states; None asks for every repository the credential may read."""
        body = resolve_request(organisation, repositories)
        answer = self._ask(_post(f"{PREFIX}/resolve", body))
        return _understood("resolve", Resolved.from_json, answer)

    def trees(
        self,
        repository: RepositoryId,
        roots: Iterable[TreeId],
        *,
        depth: int = 0,
        max_bytes: int = MAX_TREES_BYTES,
    ) -> bytes:
        """Tree frames, the roots first and always. The content is not verified yet."""
        body = trees_request(roots, depth=depth, max_bytes=max_bytes)
        return self._send(_post(_of(repository, "/trees"), body, accept=TREES_TYPE)).body

    def blobs(
        self, repository: RepositoryId, ids: Sequence[BlobId]
    ) -> Iterator[tuple[BlobId, int | None, BlobReader]]:
        """Blobs in the order asked; size None says that the repository has no such blob.

        A reader is good until the next item is asked for; what was left unread is skipped then. End
        the iteration early with ``close()`` on the iterator. Contents are not verified yet.
        """
        request = _post(_of(repository, "/blobs"), blobs_request(ids), accept=BLOBS_TYPE)
        yield from self._frames(request, ids)

    def blob_range(self, repository: RepositoryId, blob: BlobId, start: int, length: int) -> bytes:
        """Bytes ``start`` to ``start + length`` of a blob, fewer only at its end."""
        target = _of(repository, f"/blobs/{blob.hex()}")
        headers = {**_VERSION, "Range": f"bytes={start}-{start + length - 1}"}
        request = Request("GET", target, accept="application/octet-stream", headers=headers)
        with self._transport.open(request) as answer:
            _check(answer)
            # A server that ignores the range sends the whole blob.
            skip = 0 if answer.status == 206 else start
            while skip > 0 and (part := answer.read(min(skip, _COPY_BYTES))):
                skip -= len(part)
            return _read_up_to(answer, length)

    def conflicts(
        self, repository: RepositoryId, commit: CommitId, paths: Sequence[bytes]
    ) -> Iterator[tuple[bytes, BlobId | None, bytes]]:
        """Text with markers of conflicted paths; id None for one that is not conflicted there."""
        body = json_body({"commit": commit.hex(), "paths": [to_text(path) for path in paths]})
        request = _post(_of(repository, "/conflicts"), body, accept=BLOBS_TYPE)
        frames = self._frames(request, None)
        for path in paths:
            frame = next(frames, None)
            if frame is None:
                raise Unreachable("the server left out the text of a conflict")
            blob, size, reader = frame
            if size is None or not any(blob):
                yield path, None, b""
            else:
                yield path, blob, _read_up_to(reader, size)

    def upload_pack(
        self, repository: RepositoryId, checkout: CheckoutId, file: BinaryIO
    ) -> UploadedPack:
        """Send a pack from its beginning; durable at the server when this returns."""
        target = _of(repository, f"/packs?{urlencode({'checkout': checkout})}")
        request = Request("POST", target, content_type=PACK_TYPE, headers=_VERSION)
        answer = _json_of(self._transport.send(request, body_file=file))
        pack, objects = _member(answer, "pack"), _member(answer, "objects")
        if not isinstance(pack, str) or type(objects) is not int:
            raise MalformedAnswer("packs", "pack and objects are missing")
        return UploadedPack(pack, objects)

    def publish(self, repository: RepositoryId, request: PublishRequest) -> PublishAnswer:
        """Make the tree the bookmark's content. Repeat with the same publish id after any doubt."""
        answer = self._ask(_post(_of(repository, "/publish"), json_body(request.to_json())))
        return _understood("publish", PublishAnswer.from_json, answer)

    def events(
        self, watched: Sequence[tuple[RepositoryId, str | None]], *, after: int = 0
    ) -> EventStream:
        """Open the stream of states; the first ones tell where each watched bookmark stands."""
        query = {
            "repositories": ",".join(repository for repository, _ in watched),
            "after": str(after),
        }
        if any(bookmark is not None for _, bookmark in watched):
            query["bookmarks"] = ",".join(bookmark or "" for _, bookmark in watched)
        request = Request(
            "GET",
            f"{PREFIX}/events?{urlencode(query)}",
            accept="text/event-stream",
            headers=_VERSION,
        )
        return EventStream(self._transport, request)

    def _frames(
        self, request: Request, expected: Sequence[BlobId] | None
    ) -> Iterator[tuple[BlobId, int | None, BlobReader]]:
        with self._transport.open(request) as answer:
            _check(answer)
            count = 0
            try:
                for blob, size in decode_blobs(answer.read):
                    if expected is not None and (count >= len(expected) or blob != expected[count]):
                        raise Unreachable("the server answers blobs that were not asked for")
                    count += 1
                    reader = _FrameReader(answer, size or 0)
                    yield blob, size, reader
                    reader.skip()
            except Corrupt as error:
                raise Unreachable(error.message) from None
            if expected is not None and count < len(expected):
                raise Unreachable("the server left out blobs that were asked for")

    def _ask(self, request: Request) -> Any:
        return _json_of(self._transport.send(request))

    def _send(self, request: Request) -> Response:
        response = self._transport.send(request)
        if not response.ok:
            raise error_of(response.status, response.headers, response.body)
        if response.headers.get("content-type", "").split(";")[0] != request.accept:
            raise error_of(response.status, response.headers, b"")
        return response


class EventStream:
    """Iterates over events until the server closes the stream, ``close()`` is called, or it breaks.

    A stream that is silent for two heartbeats, or ends without a word, raises
    :class:`~mesafs.sdk.errors.Unreachable`; after ``close()`` the iteration just ends.
    """

    def __init__(self, transport: HttpTransport, request: Request) -> None:
        silence = 2 * HEARTBEAT_SECONDS
        self._answer, self._cut = transport.open_stream(request, silence_seconds=silence)
        self._closed = False
        try:
            _check(self._answer)
        except BaseException:
            self._answer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._answer.close()

    def close(self) -> None:
        """End the stream from any thread; whoever iterates leaves its loop at once."""
        self._closed = True
        self._cut()

    def __iter__(self) -> Iterator[StreamEvent]:
        parser = EventParser()
        try:
            while True:
                try:
                    event = _understood("event", parser.feed, self._line())
                except (Unreachable, ValueError):
                    if self._closed:
                        return
                    raise
                if event is not None:
                    yield event
                if isinstance(event, StreamClosed):
                    return
        finally:
            with suppress(OSError):
                self._answer.close()

    def _line(self) -> bytes:
        line = self._answer.read_line(_MAX_EVENT_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise Unreachable("the server's event stream ended without a word")
        return line


class _FrameReader:
    """One blob's share of a streamed answer."""

    def __init__(self, answer: OpenAnswer, size: int) -> None:
        self._answer = answer
        self._left = size

    def read(self, size: int) -> bytes:
        wanted = min(size, self._left)
        if wanted <= 0:
            return b""
        part = self._answer.read(wanted)
        if not part:
            raise Unreachable("the server's answer ends in the middle of a blob")
        self._left -= len(part)
        return part

    def skip(self) -> None:
        while self.read(_COPY_BYTES):
            pass


def _of(repository: RepositoryId, rest: str) -> str:
    return f"{PREFIX}/repositories/{segment_of(repository)}{rest}"


def _post(target: str, body: bytes, *, accept: str = JSON_TYPE) -> Request:
    # Every POST of this protocol may be repeated: reads, packs (same content, same name) and
    # publishes (by publish id).
    return Request("POST", target, body, JSON_TYPE, accept, _VERSION)


def _check(answer: OpenAnswer) -> None:
    if not 200 <= answer.status < 300:
        body = _read_up_to(answer, 1 << 20)
        raise error_of(answer.status, answer.headers, body)
    kind = answer.headers.get("content-type", "").split(";")[0]
    if kind in {"text/html", ""}:
        raise error_of(answer.status, answer.headers, b"")


def _json_of(response: Response) -> Any:
    if not response.ok:
        raise error_of(response.status, response.headers, response.body)
    return read_json(response)


def _understood(what: str, parse: Callable[[Any], T], data: Any) -> T:
    """What the protocol's own readers call corrupt is, seen from a client, a server to distrust."""
    try:
        return parse(data)
    except Corrupt as error:
        raise MalformedAnswer(what, error.message) from None


def _member(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, dict) else None


def _read_up_to(source: OpenAnswer | BlobReader, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := source.read(min(size, _COPY_BYTES))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
