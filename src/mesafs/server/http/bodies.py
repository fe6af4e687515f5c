"""Request bodies: parsed once, strictly, into typed values, with stated limits before any work.

JSON has many readers that disagree about repeated members, big numbers and odd characters. Whatever
two of them could read differently is refused here.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from starlette.requests import ClientDisconnect, Request

from mesafs.base.errors import Exhausted, Invalid
from mesafs.wire.shapes import Misfit, read

T = TypeVar("T")

MAX_BODY_BYTES = 64 << 20
MAX_DEPTH = 32
MAX_MEMBERS = 10_000
_JSON_TYPE = re.compile(r'application/json(\s*;\s*charset\s*=\s*"?utf-8"?)?\s*', re.IGNORECASE)
_INT64 = 1 << 63


class BodyTooLarge(Exhausted):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the request body is larger than {limit_bytes} bytes",
            hint="send less at a time; large trees go through `mesa repo import` or a mount",
        )


async def read_json(request: Request, *, limit_bytes: int = MAX_BODY_BYTES) -> Any:
    """The JSON value that a request brings. Reads at most ``limit_bytes``."""
    content_type = request.headers.get("content-type", "")
    if _JSON_TYPE.fullmatch(content_type) is None:
        raise Invalid("Content-Type must be application/json", hint="bodies are JSON in UTF-8")
    return parse_json(await read_bytes(request, limit_bytes=limit_bytes))


async def read_bytes(request: Request, *, limit_bytes: int) -> bytes:
    """The whole body, refused before it is read when its stated length is over the limit."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Invalid("Content-Encoding is not supported here", hint="send the body as it is")
    stated = request.headers.get("content-length")
    if stated is not None and stated.isdigit() and int(stated) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                raise BodyTooLarge(limit_bytes)
    except ClientDisconnect:
        raise Invalid("the request ended before its body did") from None
    return bytes(body)


def parse_json(body: bytes) -> Any:
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_members,
            parse_constant=_no_number,
            parse_float=_no_number,
            parse_int=_integer,
        )
    except UnicodeDecodeError:
        raise Invalid("the body is not UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Invalid(f"the body is not JSON: {str(error)[:200]}") from None
    _check(value, 0)
    return value


def fit(shape: type[T], body: Any) -> T:
    """Read a body into ``shape``; members that it does not have are refused, not skipped."""
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object")
    known = {field.name for field in dataclasses.fields(shape)}  # type: ignore[arg-type] # a dataclass
    for name in body:
        if name not in known:
            raise Invalid(f"{name[:100]!r} is not a member of this request")
    try:
        return read(shape, body)
    except Misfit as misfit:
        raise Invalid(str(misfit)) from None


def decode_base64(text: str, *, field: str) -> bytes:
    """Standard base64 with padding, in its one canonical spelling; ``""`` is no bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or base64.b64encode(data) != text.encode("utf-8", "replace"):
        raise Invalid(f"{field} is not standard base64 with padding", hint="encode the bytes first")
    return data


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_MEMBERS:
        raise Invalid(f"an object has more than {MAX_MEMBERS} members")
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Invalid("a member is given twice in one object")
    return members


def _integer(text: str) -> int:
    if len(text) > 20 or text == "-0" or not -_INT64 <= (value := int(text)) < _INT64:
        raise Invalid(f"{text[:30]} is not a number that this server takes")
    return value


def _no_number(text: str) -> NoReturn:
    raise Invalid(f"{text[:30]} is not a whole number")


def _check(value: Any, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value)
        return
    if not isinstance(value, dict | list):
        return
    if depth >= MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            _check(member, depth + 1)
    else:
        for item in value:
            _check(item, depth + 1)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise Invalid("a text in the body holds NUL")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid("a text in the body holds a lone surrogate") from None


def _too_deep() -> Invalid:
    return Invalid(f"the body is nested deeper than {MAX_DEPTH} levels")
