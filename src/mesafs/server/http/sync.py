"""``/sync/v1``: the protocol between a mount and this server (docs/reference/sync-protocol.md)."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, BinaryIO, ClassVar

from anyio import CancelScope, to_thread
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mesafs.base.errors import Invalid
from mesafs.git.receiving import PackTooLarge
from mesafs.model.ids import (
    BlobId,
    CheckoutId,
    CommitId,
    RepositoryId,
    TreeId,
    parse_object_id,
)
from mesafs.model.paths import from_text
from mesafs.server.backing import Backing
from mesafs.server.http.answers import json_answer
from mesafs.server.http.authentication import credential
from mesafs.server.http.queries import Query
from mesafs.server.http.routing import Access, Body, Call, Endpoint, Route, Scheme
from mesafs.server.http.streams import Stream
from mesafs.server.services.maintenance import Maintenance
from mesafs.server.services.objects import Blob, SyncObjects
from mesafs.server.services.principals import Principals
from mesafs.server.services.projection import Projection
from mesafs.server.services.publish import Publisher
from mesafs.server.services.subscriptions import Closed, Moved, Subscription, Subscriptions
from mesafs.wire.sync import (
    BLOBS_TYPE,
    HEARTBEAT_SECONDS,
    MAX_ONE_OBJECT_PACK_BYTES,
    MAX_PACK_BYTES,
    MAX_TREES_BYTES,
    PREFIX,
    PROTOCOL_VERSION,
    TREES_TYPE,
    VERSION_HEADER,
    PublishRequest,
    pack_limit_bytes,
)

MAX_TREE_DEPTH = 256
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})?|bytes=-([0-9]{1,18})")
_SPOOLED_IN_MEMORY = 1 << 20

_PACK_HEAD_BYTES = 12


class UnsupportedProtocol(Invalid):
    default_code: ClassVar[str | None] = "UNSUPPORTED_PROTOCOL"

    def __init__(self, spoken: str | None) -> None:
        super().__init__(
            f"{VERSION_HEADER} is {spoken[:40] if spoken else 'missing'}; "
            f"this server speaks {PROTOCOL_VERSION}",
            hint="install the client that this server offers at /install.sh",
        )


def routes(backing: Backing, principals: Principals, projection: Projection) -> list[Route]:
    objects = SyncObjects(backing)
    publisher = Publisher(backing, projection, Maintenance(backing))
    subscriptions = Subscriptions(backing, principals)

    def resolve(call: Call) -> Response:
        body = _members(call.body, "organisation", "repositories")
        wanted = body["repositories"]
        names = None if wanted is None else [_name(item) for item in _list(wanted, "repositories")]
        organisation = _text(body["organisation"], "organisation")
        return json_answer(objects.resolve(call.principal, organisation, names).to_json())

    def trees(call: Call) -> Response:
        body = _members(call.body, "roots", "depth", "max_bytes")
        frames = objects.trees(
            call.principal,
            _repository(call),
            [
                TreeId(parse_object_id(_text(root, "roots"), field="roots"))
                for root in _list(body["roots"], "roots")
            ],
            depth=_number(body["depth"], "depth", high=MAX_TREE_DEPTH),
            max_bytes=min(_number(body["max_bytes"], "max_bytes"), MAX_TREES_BYTES),
        )
        return Response(b"".join(frames), media_type=TREES_TYPE)

    def blobs(call: Call) -> Response:
        body = _members(call.body, "ids")
        wanted = [
            BlobId(parse_object_id(_text(each, "ids"), field="ids"))
            for each in _list(body["ids"], "ids")
        ]
        return _streamed(objects.blobs(call.principal, _repository(call), wanted), BLOBS_TYPE)

    def blob(call: Call) -> Response:
        oid = BlobId(parse_object_id(call.segments["oid"], field="blob"))
        found = objects.blob(call.principal, _repository(call), oid)
        return _ranged(found, call.request.headers.get("range"))

    def conflicts(call: Call) -> Response:
        body = _members(call.body, "commit", "paths")
        commit = CommitId(parse_object_id(_text(body["commit"], "commit"), field="commit"))
        paths = [from_text(_text(path, "paths")) for path in _list(body["paths"], "paths")]
        frames = objects.conflict_texts(call.principal, _repository(call), commit, paths)
        return _streamed(frames, BLOBS_TYPE)

    def publish(call: Call) -> Response:
        request = PublishRequest.from_json(call.body)
        answer = publisher.publish(call.principal, _repository(call), request).to_json()
        backing.files.reached("reply.send")
        return json_answer(answer)

    async def packs(call: Call) -> Response:
        query = Query(call.request.scope["query_string"])
        checkout = CheckoutId(query.required("checkout"))
        query.finish()
        repository = _repository(call)
        await to_thread.run_sync(objects.require_write, call.principal, repository)
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_IN_MEMORY) as spool:
            await _spool(call.request, spool)
            spool.seek(0)
            pack = await to_thread.run_sync(
                objects.receive_pack, call.principal, repository, checkout, _pieces(spool)
            )
        backing.files.reached("reply.send")
        return json_answer({"pack": pack.name, "objects": len(pack.object_ids)})

    async def events(call: Call) -> Response:
        query = Query(call.request.scope["query_string"])
        repositories = query.required("repositories").split(",")
        bookmarks = (query.filled("bookmarks") or "," * (len(repositories) - 1)).split(",")
        query.integer("after", low=0, high=10**18 - 1, default=0)
        query.finish()
        _check_last_event_id(call.request)
        if len(bookmarks) != len(repositories):
            raise Invalid("bookmarks must name one for each of repositories, or be left out")
        watched = [
            (RepositoryId(repository), bookmark or None)
            for repository, bookmark in zip(repositories, bookmarks, strict=True)
        ]
        text = credential(call.request.headers, Scheme.BEARER)
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

        subscription = await to_thread.run_sync(
            subscriptions.open, call.principal, text, watched, wake
        )
        return Stream(_events(subscription, woken), media_type="text/event-stream")

    of = PREFIX + "/repositories/{repository}"
    return [
        _route("POST", PREFIX + "/resolve", "syncResolve", Access.ANY, resolve, Body.JSON),
        _route("POST", of + "/trees", "syncTrees", Access.ANY, trees, Body.JSON),
        _route("POST", of + "/blobs", "syncBlobs", Access.ANY, blobs, Body.JSON),
        _route("GET", of + "/blobs/{oid}", "syncBlob", Access.ANY, blob),
        _route("POST", of + "/conflicts", "syncConflicts", Access.ANY, conflicts, Body.JSON),
        _route("POST", of + "/packs", "syncPacks", Access.ANY, packs, Body.STREAM),
        _route("POST", of + "/publish", "syncPublish", Access.ANY, publish, Body.JSON),
        _route("GET", PREFIX + "/events", "syncEvents", Access.ANY, events),
    ]


def _route(
    method: str,
    path: str,
    operation: str,
    access: Access,
    endpoint: Callable[[Call], Response] | Callable[[Call], Awaitable[Response]],
    body: Body = Body.NONE,
) -> Route:
    """A route of this protocol: it must be spoken in our version, and may answer 503."""
    checked: Endpoint
    if inspect.iscoroutinefunction(endpoint):

        async def checked_async(call: Call) -> Response:
            _check_version(call.request)
            answer: Response = await endpoint(call)
            return answer

        checked = checked_async
    else:

        def checked_plain(call: Call) -> Response:
            _check_version(call.request)
            answer = endpoint(call)
            assert isinstance(answer, Response), "a plain endpoint gives a response"
            return answer

        checked = checked_plain
    return Route(method, path, operation, access, checked, body, may_answer_503=True)


def _check_version(request: Request) -> None:
    spoken = request.headers.get(VERSION_HEADER)
    if spoken != str(PROTOCOL_VERSION):
        raise UnsupportedProtocol(spoken)


def _check_last_event_id(request: Request) -> None:
    """Each stream begins with where everything stands, so an old position needs no replay."""
    position = request.headers.get("last-event-id")
    if position is not None and re.fullmatch(r"[0-9]{1,18}", position) is None:
        raise Invalid("Last-Event-ID is not a position of this server")


async def _events(subscription: Subscription, woken: asyncio.Event) -> AsyncIterator[bytes]:
    try:
        while True:
            woken.clear()
            moved, closed = await to_thread.run_sync(subscription.due)
            for event in moved:
                yield _told(event)
            if closed is not None:
                yield _ended(closed)
                return
            left = subscription.seconds_left()
            wait = HEARTBEAT_SECONDS if left is None else max(0.0, min(HEARTBEAT_SECONDS, left))
            try:
                await asyncio.wait_for(woken.wait(), wait)
            except TimeoutError:
                yield b": still here\n\n"
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(subscription.close)


def _told(event: Moved) -> bytes:
    data = json.dumps(event.state.to_json(), separators=(",", ":"))
    return f"id: {event.number}\nevent: state\ndata: {data}\n\n".encode()


def _ended(closed: Closed) -> bytes:
    data = json.dumps({"reason": closed.reason, "message": closed.message})
    return f"event: closed\ndata: {data}\n\n".encode()


async def _spool(request: Request, spool: Any) -> None:
    stated = request.headers.get("content-length")
    if stated is not None and stated.isdigit() and int(stated) > MAX_ONE_OBJECT_PACK_BYTES:
        raise _too_large(MAX_ONE_OBJECT_PACK_BYTES)
    total, limit, head = 0, MAX_PACK_BYTES, b""
    async for chunk in request.stream():
        if len(head) < _PACK_HEAD_BYTES:
            head += chunk[:_PACK_HEAD_BYTES]
            limit = pack_limit_bytes(head)
        total += len(chunk)
        if total > limit:
            raise _too_large(limit)
        spool.write(chunk)


def _too_large(limit: int) -> PackTooLarge:
    return PackTooLarge(
        f"the pack is larger than {limit >> 20} MiB",
        hint="send the objects in several packs, blobs before the trees that name them",
    )


def _pieces(spool: BinaryIO | Any) -> Iterator[bytes]:
    while chunk := spool.read(1 << 16):
        yield chunk


def _streamed(chunks: Iterator[bytes], media_type: str) -> Response:
    return Stream(iterate_in_threadpool(chunks), media_type=media_type)


def _ranged(blob: Blob, header: str | None) -> Response:
    start, end, status = 0, blob.size, 200
    match = None if header is None else _RANGE.fullmatch(header)
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{blob.id.hex()}"'}
    if match is not None:
        if match[3] is not None:
            start = max(0, blob.size - int(match[3]))
        else:
            start = int(match[1])
            if match[2] is not None:
                end = min(blob.size, int(match[2]) + 1)
        if start >= blob.size or start >= end:
            return Response(
                status_code=416, headers={"Content-Range": f"bytes */{blob.size}", **headers}
            )
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size}"
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(
        blob.chunks(start, end), status, headers, media_type="application/octet-stream"
    )


def _repository(call: Call) -> RepositoryId:
    return RepositoryId(call.segments["repository"])


def _members(body: Any, *names: str) -> dict[str, Any]:
    """The members of a body, all of them; unknown ones are left for later versions."""
    if not isinstance(body, dict):
        raise Invalid("the body must be an object")
    for name in names:
        if name not in body:
            raise Invalid(f"{name} is missing")
    return body


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise Invalid(f"{name} must be a list")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{name} must be text")
    return value


def _number(value: Any, name: str, *, high: int | None = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Invalid(f"{name} must be a whole number")
    if high is not None and value > high:
        raise Invalid(f"{name} must be at most {high}")
    return value


def _name(item: Any) -> tuple[str, str | None]:
    member = _members(item, "name")
    bookmark = member.get("bookmark")
    return _text(member["name"], "name"), None if bookmark is None else _text(bookmark, "bookmark")
