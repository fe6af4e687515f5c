"""``git clone`` and ``git fetch`` at ``/{org}/{repo}.git``, by git's own ``upload-pack``.

The child reads a request and writes an answer through pipes, piece by piece, with flat memory. It is
killed when the reader is gone, stalls, or loses its right to read. The refs it shows are written from
the catalogue just before.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from typing import ClassVar

from anyio import CancelScope, to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import Exhausted, Invalid, MesaError, NotFound
from mesafs.git.children import command, environment
from mesafs.model.ids import RepositoryId
from mesafs.server.backing import Backing
from mesafs.server.http.authentication import credential
from mesafs.server.http.queries import Query
from mesafs.server.http.routing import Access, Body, Call, Route, Scheme
from mesafs.server.http.streams import Stream
from mesafs.server.services.principals import Principals
from mesafs.server.services.projection import Projection
from mesafs.server.services.repositories import find

UPLOAD_PACK = "git-upload-pack"
RECEIVE_PACK = "git-receive-pack"
#: A fetch says what it wants and has; this holds a million haves.
MAX_REQUEST_BYTES = 64 << 20
MAX_CHILDREN = 32
#: How often the right to read is asked for again while an answer runs.
RECHECK_SECONDS = 5.0
_PIECE_BYTES = 1 << 16
_PROTOCOL = re.compile(r"version=[012]")
_NO_PUSH = (
    "This server does not take `git push` yet. Edit in a mount, or use `mesa repo import`;\n"
    "push comes with a later version.\n"
)


class BadGitRequest(Invalid):
    default_code: ClassVar[str | None] = "INVALID_GIT_REQUEST"


def routes(backing: Backing, principals: Principals, projection: Projection) -> list[Route]:
    git = _GitHttp(backing, principals, projection)
    of = "/{org}/{repo}.git"
    return [
        _route("GET", of + "/info/refs", "gitInfoRefs", git.info_refs),
        _route("POST", of + "/" + UPLOAD_PACK, "gitUploadPack", git.upload_pack, Body.STREAM),
        _route("POST", of + "/" + RECEIVE_PACK, "gitReceivePack", git.receive_pack, Body.STREAM),
    ]


def _route(
    method: str, path: str, operation: str, endpoint: object, body: Body = Body.NONE
) -> Route:
    return Route(
        method,
        path,
        operation,
        Access.READ,
        endpoint,  # type: ignore[arg-type] # a bound coroutine function
        body,
        Scheme.BASIC,
        may_answer_503=True,
    )


class _GitHttp:
    def __init__(self, backing: Backing, principals: Principals, projection: Projection) -> None:
        self._backing = backing
        self._principals = principals
        self._projection = projection
        self._children = asyncio.Semaphore(MAX_CHILDREN)

    async def info_refs(self, call: Call) -> Response:
        query = Query(call.request.scope["query_string"])
        service = query.text("service")
        query.finish()
        if service == RECEIVE_PACK:
            return _no_push()
        if service != UPLOAD_PACK:
            raise NotFound(
                "only git's smart protocol is served here", hint="use git 1.6.6 or newer"
            )
        repository = await self._repository(call)
        # Version 2 begins with its own line; the older ones are told the service before.
        spoken = call.request.headers.get("git-protocol", "")
        head = b"" if spoken == "version=2" else b"001e# service=git-upload-pack\n0000"
        return Stream(
            self._answer(call, repository, ["--http-backend-info-refs"], b"", first=head),
            media_type="application/x-git-upload-pack-advertisement",
            headers={"Cache-Control": "no-cache"},
        )

    async def upload_pack(self, call: Call) -> Response:
        Query(call.request.scope["query_string"]).finish()
        if call.request.headers.get("content-type") != "application/x-git-upload-pack-request":
            raise BadGitRequest("Content-Type must be application/x-git-upload-pack-request")
        repository = await self._repository(call)
        body = await _body(call.request)
        return Stream(
            self._answer(call, repository, [], body),
            media_type="application/x-git-upload-pack-result",
            headers={"Cache-Control": "no-cache"},
        )

    async def receive_pack(self, call: Call) -> Response:
        return _no_push()

    async def _repository(self, call: Call) -> RepositoryId:
        """The repository this caller may read, its refs up to date."""

        def ready() -> RepositoryId:
            repository = self._readable(call.principal, call.segments["repo"])
            self._projection.project(repository)
            return repository

        return await to_thread.run_sync(ready)

    def _readable(self, principal: Principal, name: str) -> RepositoryId:
        with self._backing.catalogue.read() as connection:
            return find(connection, principal, Scope.READ, name).id

    async def _answer(
        self,
        call: Call,
        repository: RepositoryId,
        options: list[str],
        body: bytes,
        *,
        first: bytes = b"",
    ) -> AsyncIterator[bytes]:
        path = self._backing.objects.path(repository)
        spoken = call.request.headers.get("git-protocol", "")
        extra = {"GIT_PROTOCOL": spoken} if _PROTOCOL.fullmatch(spoken) else {}
        arguments = command(path, "upload-pack", "--stateless-rpc", "--strict", *options, str(path))
        async with self._children:
            child = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment(**extra),
            )
            feeding = asyncio.create_task(_feed(child, body))
            try:
                if first:
                    yield first
                async for piece in self._pieces(call, child):
                    yield piece
            finally:
                with CancelScope(shield=True):
                    if child.returncode is None:
                        child.kill()
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)
                    await child.wait()

    async def _pieces(self, call: Call, child: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
        assert child.stdout is not None
        clock = self._backing.clock
        checked = clock.monotonic()
        reading = asyncio.ensure_future(child.stdout.read(_PIECE_BYTES))
        try:
            while True:
                done, _ = await asyncio.wait({reading}, timeout=RECHECK_SECONDS)
                if clock.monotonic() - checked >= RECHECK_SECONDS or not done:
                    if self._backing.shutdown.begun or not await to_thread.run_sync(
                        self._still_allowed, call
                    ):
                        return
                    checked = clock.monotonic()
                if not done:
                    continue
                piece = reading.result()
                if not piece:
                    return
                yield piece
                reading = asyncio.ensure_future(child.stdout.read(_PIECE_BYTES))
        finally:
            reading.cancel()

    def _still_allowed(self, call: Call) -> bool:
        try:
            principal = self._principals.principal_for(
                credential(call.request.headers, Scheme.BASIC)
            )
            self._readable(principal, call.segments["repo"])
        except MesaError:
            return False
        return True


def _no_push() -> Response:
    return PlainTextResponse(_NO_PUSH, status_code=403)


async def _feed(child: asyncio.subprocess.Process, body: bytes) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(body)
        await child.stdin.drain()
        child.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        return  # it has answered without reading all of it


async def _body(request: Request) -> bytes:
    """The request for upload-pack, unpacked if git packed it; both forms are bounded."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise BadGitRequest("Content-Encoding must be gzip or absent")
    unpack = None if encoding == "identity" else zlib.decompressobj(wbits=31)
    body = bytearray()
    async for chunk in request.stream():
        if unpack is None:
            body += chunk
        else:
            try:
                body += unpack.decompress(chunk, MAX_REQUEST_BYTES + 1 - len(body))
            except zlib.error:
                raise BadGitRequest("the body is not gzip") from None
        if len(body) > MAX_REQUEST_BYTES:
            raise Exhausted(f"the request is larger than {MAX_REQUEST_BYTES >> 20} MiB")
    if unpack is not None and not unpack.eof:
        raise BadGitRequest("the gzip body is not complete")
    return bytes(body)
