"""Async transport on httpx, with the same rules as the blocking one: one origin, no redirects."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TypeVar

import httpx

from mesafs.base.errors import Unauthenticated
from mesafs.sdk.errors import Unreachable
from mesafs.sdk.exchange import USER_AGENT, Call, Request, Response
from mesafs.sdk.server_url import ServerUrl

T = TypeVar("T")

_RETRY_PAUSES_SECONDS = (0.05, 0.25)


class HttpxTransport:
    """Made without a loop; connections open at the first request and are closed by ``close``."""

    def __init__(
        self,
        url: ServerUrl,
        *,
        credential: str,
        ca_file: Path | None,
        timeout_seconds: float,
        user_agent: str | None,
    ) -> None:
        if not (credential.isascii() and credential.isprintable()):
            raise Unauthenticated("the credential holds characters that no key or token has")
        self._url = url
        self._headers = {
            "Authorization": f"Bearer {credential}",
            "User-Agent": f"{USER_AGENT} {user_agent}" if user_agent else USER_AGENT,
        }
        self._ca_file = ca_file
        self._timeout_seconds = timeout_seconds
        self._client: httpx.AsyncClient | None = None

    async def run(self, call: Call[T]) -> T:
        return call.result(await self.send(call.request))

    async def send(self, request: Request) -> Response:
        pauses = iter(_RETRY_PAUSES_SECONDS if request.idempotent else ())
        while True:
            try:
                return await self._attempt(request)
            except httpx.TransportError as error:
                pause = next(pauses, None)
                if pause is None or isinstance(error, httpx.TimeoutException):
                    raise Unreachable(
                        f"{self._url} cannot be reached: {str(error) or type(error).__name__}",
                        hint="is the server running there?",
                    ) from None
                await asyncio.sleep(pause)

    async def _attempt(self, request: Request) -> Response:
        headers = {"Accept": request.accept, **request.headers}
        if request.content_type is not None:
            headers["Content-Type"] = request.content_type
        answer = await self._open().request(
            request.method, str(self._url) + request.target, content=request.body, headers=headers
        )
        named = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status_code, named, answer.content)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                headers=self._headers,
                timeout=self._timeout_seconds,
                verify=self._tls_context(),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        return context
