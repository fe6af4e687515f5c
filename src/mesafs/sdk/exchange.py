"""One request and its answer as values, so that operations are built and parsed without I/O.

An operation is a small function that gives a :class:`Call`: the request, and how to read a good
answer. Drivers (``transport_http`` blocking, ``transport_httpx`` async) only carry them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from mesafs.sdk.errors import UnexpectedAnswer, error_of
from mesafs.version import __version__

T = TypeVar("T")

USER_AGENT = f"mesafs/{__version__}"
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """``target`` is the path below the server's origin and prefix, already percent-encoded, with query.

    ``idempotent`` says that carrying it out twice is as good as once; only then is it ever repeated.
    """

    method: str
    target: str
    body: bytes | None = None
    content_type: str | None = None
    accept: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotent: bool = True


@dataclass(frozen=True, slots=True)
class Response:
    """``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request and the reader of its good answer."""

    request: Request
    read: Callable[[Response], T]

    def result(self, response: Response) -> T:
        """What a good answer says; an error answer is raised as the error it describes."""
        if not response.ok:
            raise error_of(response.status, response.headers, response.body)
        return self.read(response)


def path(*segments: str, query: Mapping[str, object] | None = None) -> str:
    """``/v1/…`` with every segment percent-encoded, slashes too, and the members that are not None."""
    target = "/v1/" + "/".join(segment_of(each) for each in segments)
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"{target}?{urlencode(given, quote_via=quote)}" if given else target


def segment_of(text: str) -> str:
    """One path segment; a dot name is escaped too, since clients and proxies resolve plain ones."""
    encoded = quote(text, safe="", errors="surrogatepass")
    return encoded.replace(".", "%2E") if encoded in {".", ".."} else encoded


def json_body(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def read_json(response: Response) -> Any:
    """The JSON of a good answer; a proxy's page or rubbish is :class:`UnexpectedAnswer`."""
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        raise UnexpectedAnswer(response.status, response.headers, response.body) from None
