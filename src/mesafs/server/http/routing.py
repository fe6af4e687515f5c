"""Routing on the raw path: each segment is decoded exactly once, after the path has been split.

Every operation of the server is a :class:`Route` in one table, which states who may call it. The
order is always the same: credential, route, organisation, scope, and only then the body. Nothing
but the contract's envelope leaves as an error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import Invalid, NotFound


class Access(Enum):
    """What a caller needs before anything else is looked at."""

    PUBLIC = "public"  # no credential is read
    ANY = "any"  # any valid credential
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def scope(self) -> Scope | None:
        return None if self in (Access.PUBLIC, Access.ANY) else Scope(self.value)


class Body(Enum):
    """What is read of a request's body before the endpoint runs."""

    NONE = "none"  # nothing; the endpoint reads none either
    JSON = "json"  # one JSON value, strictly, into ``Call.body``
    STREAM = "stream"  # the endpoint reads ``Call.request.stream()`` itself


class Scheme(Enum):
    """How a credential is presented."""

    BEARER = "bearer"
    BASIC = "basic"  # git: the key or token is the password


@dataclass(slots=True)
class Call:
    """One request, past its checks. ``segments`` are the decoded wildcards of the route's path."""

    request: Request
    route: Route
    segments: Mapping[str, str]
    request_id: str
    caller: Principal | None = None
    body: Any = None

    @property
    def principal(self) -> Principal:
        assert self.caller is not None, "a public route asks for no principal"
        return self.caller


#: A plain function runs in a worker thread and may block; a coroutine runs on the event loop.
Endpoint = Callable[[Call], Response | Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``path`` holds literals and wildcards: ``/v1/{org}/{repo}``, ``/{org}/{repo}.git``.

    ``operation`` names it in metrics, logs and tests. A wildcard ``{org}`` must be the caller's own
    organisation, or there is nothing there.
    """

    method: str
    path: str
    operation: str
    access: Access
    endpoint: Endpoint
    body: Body = Body.NONE
    scheme: Scheme = Scheme.BEARER
    #: Whether the answer for "not now" may be 503, which the REST contract does not know.
    may_answer_503: bool = False
    parts: tuple[_Part, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = tuple(_Part.parse(segment) for segment in self.path.split("/")[1:])
        object.__setattr__(self, "parts", parts)

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.endpoint)

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """The wildcards' values when ``segments`` are of this route."""
        values: dict[str, str] = {}
        for part, segment in zip(self.parts, segments, strict=True):
            if part.name is None:
                if segment != part.text:
                    return None
            elif not segment.endswith(part.text) or len(segment) == len(part.text):
                return None
            else:
                values[part.name] = segment[: len(segment) - len(part.text)]
        return values


@dataclass(frozen=True, slots=True)
class _Part:
    """A literal (no name), or a wildcard followed by a literal end."""

    name: str | None
    text: str

    @classmethod
    def parse(cls, segment: str) -> _Part:
        found = re.fullmatch(r"\{(\w+)\}(.*)", segment)
        return cls(None, segment) if found is None else cls(found[1], found[2])

    @property
    def vagueness(self) -> int:
        return 0 if self.name is None else 1 if self.text else 2


class NoSuchOperation(NotFound):
    def __init__(self, method: str) -> None:
        super().__init__(
            f"there is no such operation with the method {method[:20]!r}",
            hint="check the path and the method; paths are case-sensitive and start with /v1",
        )


class BadPath(Invalid):
    def __init__(self, why: str) -> None:
        super().__init__(f"the path {why}")


class Table:
    """All routes; literals win over wildcards."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._by_shape: dict[tuple[str, int], list[Route]] = {}
        for route in self.routes:
            self._by_shape.setdefault((route.method, len(route.parts)), []).append(route)
        for candidates in self._by_shape.values():
            candidates.sort(key=lambda route: [part.vagueness for part in route.parts])

    def find(self, method: str, segments: tuple[str, ...]) -> tuple[Route, dict[str, str]] | None:
        for route in self._by_shape.get((method, len(segments)), ()):
            values = route.match(segments)
            if values is not None:
                return route, values
        return None


def split(raw_path: bytes) -> tuple[str, ...]:
    """The decoded segments of a request's path, or :class:`BadPath`."""
    if not raw_path.startswith(b"/"):
        raise BadPath("is not one of this server")
    if b"%" not in raw_path and raw_path.isascii():
        segments = tuple(raw_path[1:].decode().split("/"))
    else:
        segments = tuple(_decode(segment) for segment in raw_path[1:].split(b"/"))
    if any(char in segment for segment in segments for char in "\0"):
        raise BadPath("holds NUL")
    return segments


def _decode(segment: bytes) -> str:
    if re.search(rb"%(?![0-9A-Fa-f]{2})", segment):
        raise BadPath("holds a percent sign that begins no escape")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise BadPath("is not UTF-8") from None
