"""The ASGI application: takes each request through its checks, in one order, and answers.

Credential, route, organisation, scope, then the body; an error on the way is the contract's
envelope. Each request has an id, is counted once and logged in one line without secrets.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from mesafs.auth.principals import Principal
from mesafs.base.clock import Clock
from mesafs.base.errors import Denied, ErrorKind, MesaError, NotFound, Unauthenticated
from mesafs.server.http.authentication import challenge, credential
from mesafs.server.http.bodies import read_json
from mesafs.server.http.counters import Counters
from mesafs.server.http.errors import envelope, unexpected
from mesafs.server.http.routing import (
    Access,
    BadPath,
    Body,
    Call,
    NoSuchOperation,
    Route,
    Scheme,
    Table,
    split,
)
from mesafs.server.logs import LOGGER

_SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
#: A body that took longer than this to arrive may have outlived the grant it was admitted under.
GRANT_STANDS_SECONDS = 0.25

Authenticate = Callable[[str], Principal]
#: A coroutine pair that begins and ends what the application needs while it serves.
Lifespan = Callable[[], Awaitable[None]]


class NoSuchOrganisation(NotFound):
    def __init__(self) -> None:
        super().__init__("no such organisation", hint="check MESA_ORG against `mesa whoami`")


@dataclass(slots=True)
class _Exchange:
    """What is known of a request while it is answered."""

    request: Request
    request_id: str
    route: Route | None = None
    caller: Principal | None = None
    status: int = 0
    received: int = 0
    sent: int = 0

    @property
    def operation(self) -> str:
        return "none" if self.route is None else self.route.operation


class Application:
    def __init__(
        self,
        table: Table,
        authenticate: Authenticate,
        *,
        clock: Clock,
        counters: Counters,
        closing: Lifespan,
    ) -> None:
        self.table = table
        self._authenticate = authenticate
        self._clock = clock
        self._counters = counters
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        started = self._clock.monotonic()
        exchange = _Exchange(Request(scope), _request_id(scope))
        counted_receive, counted_send = _counting(exchange, receive, send)
        exchange.request = Request(scope, counted_receive)
        try:
            response = await self._answer(exchange)
            response.headers["X-Request-Id"] = exchange.request_id
            response.headers.setdefault("X-Content-Type-Options", "nosniff")
            response.headers.setdefault("Cache-Control", "private, no-store")
            await response(scope, counted_receive, counted_send)
        finally:
            self._note(exchange, self._clock.monotonic() - started)

    async def _answer(self, exchange: _Exchange) -> Response:
        may_answer_503 = False
        try:
            route, segments = await self._admit(exchange)
            may_answer_503 = route.may_answer_503
            call = Call(exchange.request, route, segments, exchange.request_id, exchange.caller)
            if route.body is Body.JSON:
                admitted = self._clock.monotonic()
                call.body = await read_json(exchange.request)
                if self._clock.monotonic() - admitted > GRANT_STANDS_SECONDS:
                    call.caller = await self._authorise(exchange, route, segments)
            return await _run(route, call)
        except MesaError as error:
            if error.kind is ErrorKind.CORRUPT:
                LOGGER.error("damaged data", exc_info=error, extra={"facts": _id(exchange)})
            response = envelope(
                error, request_id=exchange.request_id, may_answer_503=may_answer_503
            )
            if isinstance(error, Unauthenticated):
                scheme = Scheme.BEARER if exchange.route is None else exchange.route.scheme
                response.headers["WWW-Authenticate"] = challenge(scheme)
            return response
        except (ClientDisconnect, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the last edge: a bug becomes a 500 and a log line
            LOGGER.error("unexpected error", exc_info=error, extra={"facts": _id(exchange)})
            return unexpected(request_id=exchange.request_id)

    async def _admit(self, exchange: _Exchange) -> tuple[Route, dict[str, str]]:
        """The route of a request whose credential, organisation and scope allow it."""
        scope = exchange.request.scope
        problem: MesaError | None = None
        segments: dict[str, str] = {}
        try:
            raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
            found = self.table.find(scope["method"], split(raw_path))
        except BadPath as error:
            found, problem = None, error
        if found is not None:
            exchange.route, segments = found
        route = exchange.route
        if route is not None and route.access is Access.PUBLIC:
            return route, segments
        # Whoever has no credential learns nothing, not even which paths exist.
        await self._authorise(exchange, route, segments)
        if route is None:
            raise problem or NoSuchOperation(scope["method"])
        return route, segments

    async def _authorise(
        self, exchange: _Exchange, route: Route | None, segments: Mapping[str, str]
    ) -> Principal:
        """The principal of a request, from its key's state now, if it may call ``route``."""
        scheme = Scheme.BEARER if route is None else route.scheme
        text = credential(exchange.request.headers, scheme)
        caller = await to_thread.run_sync(self._authenticate, text)
        exchange.caller = caller
        if segments.get("org", caller.organisation_slug) != caller.organisation_slug:
            raise NoSuchOrganisation
        wanted = None if route is None else route.access.scope
        if wanted is not None and wanted not in caller.scopes:
            raise Denied(
                f"this credential does not have the scope {wanted.value}",
                hint=f"use an API key or token with the scope {wanted.value}",
            )
        return caller

    def _note(self, exchange: _Exchange, seconds: float) -> None:
        status = exchange.status or 499  # the client left before it was answered
        self._counters.note(
            exchange.operation, status, received=exchange.received, sent=exchange.sent
        )
        LOGGER.info(
            "request",
            extra={
                "facts": {
                    **_id(exchange),
                    "method": exchange.request.method[:16],
                    "status": status,
                    "milliseconds": round(seconds * 1000, 2),
                    "received": exchange.received,
                    "sent": exchange.sent,
                    "key": None if exchange.caller is None else exchange.caller.key_id,
                }
            },
        )

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._closing()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _run(route: Route, call: Call) -> Response:
    if route.is_async:
        answer = route.endpoint(call)
        assert isinstance(answer, Awaitable), "a coroutine function gives a coroutine"
        return await answer
    response = await to_thread.run_sync(route.endpoint, call)
    assert isinstance(response, Response), "a plain endpoint gives a response"
    return response


def _counting(exchange: _Exchange, receive: Receive, send: Send) -> tuple[Receive, Send]:
    async def counted_receive() -> Message:
        message = await receive()
        exchange.received += len(message.get("body", b""))
        return message

    async def counted_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            exchange.sent += sum(len(name) + len(value) + 4 for name, value in message["headers"])
        exchange.sent += len(message.get("body", b""))
        await send(message)

    return counted_receive, counted_send


def _request_id(scope: Scope) -> str:
    """The client's own id if it is harmless, so that it can find its request in our log."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")[:128]
            if _SAFE_REQUEST_ID.fullmatch(text):
                return str(text)
    return secrets.token_hex(8)


def _id(exchange: _Exchange) -> dict[str, Any]:
    return {"request_id": exchange.request_id, "operation": exchange.operation}
