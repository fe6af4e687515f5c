"""What needs no credential and names nothing: is it alive, may it be sent requests, how busy is it."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from mesafs.server.backing import Backing
from mesafs.server.http.counters import PLAIN_TYPE, Counters
from mesafs.server.http.routing import Access, Call, Route
from mesafs.store import organisations


def routes(backing: Backing, counters: Counters) -> list[Route]:
    async def alive(_: Call) -> Response:
        return PlainTextResponse("ok\n")

    def ready(_: Call) -> Response:
        """Whether the catalogue answers and the server is not about to end."""
        if backing.shutdown.begun:
            return PlainTextResponse("shutting down\n", 503)
        with backing.catalogue.read() as connection:
            organisations.fact(connection, "server_id")
        return PlainTextResponse("ready\n")

    async def metrics(_: Call) -> Response:
        return PlainTextResponse(counters.exposition(), media_type=PLAIN_TYPE)

    return [
        Route("GET", "/healthz", "healthz", Access.PUBLIC, alive),
        Route("GET", "/readyz", "readyz", Access.PUBLIC, ready),
        Route("GET", "/metrics", "metrics", Access.PUBLIC, metrics),
    ]
