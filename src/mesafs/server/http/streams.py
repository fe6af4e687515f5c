"""Answers that go on for a while: sent piece by piece, ended when the reader is gone or does not read.

Nothing is buffered here beyond one piece. A reader that takes nothing for ``STALL_SECONDS`` is cut off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

STALL_SECONDS = 20.0


class Stream(Response):
    """A response whose body is an async iterator. The iterator is closed whatever happens."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        media_type: str,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._pieces = pieces
        self._stall_seconds = stall_seconds
        self.status_code = status_code
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:

            async def leave_with_the_reader() -> None:
                while (await receive())["type"] != "http.disconnect":
                    continue
                group.cancel_scope.cancel()

            group.start_soon(leave_with_the_reader)
            try:
                await self._send_all(send)
            finally:
                with anyio.CancelScope(shield=True):
                    closing = getattr(self._pieces, "aclose", None)
                    if closing is not None:
                        await closing()
            group.cancel_scope.cancel()

    async def _send_all(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        async for piece in self._pieces:
            with anyio.move_on_after(self._stall_seconds) as limit:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if limit.cancelled_caught:
                return  # without a last piece: the server drops the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})
