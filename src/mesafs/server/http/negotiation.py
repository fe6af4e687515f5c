"""Which form of an answer a request accepts. No ``Accept``, or ``*/*``, is JSON."""

from __future__ import annotations

import re

from starlette.requests import Request

from mesafs.server.http.errors import NotAcceptable

JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"
_QUALITY = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


def preferred(request: Request, offered: tuple[str, ...]) -> str:
    """The offered type that the request likes best, the first of equals; 406 when none is."""
    accept = ",".join(request.headers.getlist("accept")) or "*/*"
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    best, liked = "", 0.0
    for kind in offered:
        quality = _quality(kind, ranges)
        if quality > liked:
            best, liked = kind, quality
    if not best:
        raise NotAcceptable(
            f"none of {', '.join(offered)} is acceptable to this request",
            hint="change the Accept header",
        )
    return best


def _range(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        if match := _QUALITY.fullmatch(parameter):
            return kind.lower(), float(match[1])
    return kind.lower(), 1.0


def _quality(kind: str, ranges: list[tuple[str, float]]) -> float:
    """By the most specific range that fits."""
    for wanted in (kind, kind.partition("/")[0] + "/*", "*/*"):
        fitting = [quality for name, quality in ranges if name == wanted]
        if fitting:
            return max(fitting)
    return 0.0
