"""The credential of a request: exactly one well-formed ``Authorization`` header, and nothing else.

Credentials in a query string, a cookie or a URL are not looked at.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import ClassVar

from starlette.datastructures import Headers

from mesafs.base.errors import Unauthenticated
from mesafs.server.http.routing import Scheme

_BEARER = re.compile(r"bearer ([\x21-\x7e]+)", re.IGNORECASE)
_BASIC = re.compile(r"basic ([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)


class NoCredential(Unauthenticated):
    default_code: ClassVar[str | None] = "UNAUTHENTICATED"

    def __init__(self, scheme: Scheme) -> None:
        hints = {
            Scheme.BEARER: "send `Authorization: Bearer <API key or access token>`",
            Scheme.BASIC: "give the API key or access token as the password, with any user name",
        }
        super().__init__("no valid credential was presented", hint=hints[scheme])


def credential(headers: Headers, scheme: Scheme) -> str:
    """The key or token that a request presents, or :class:`NoCredential`."""
    values = headers.getlist("authorization")
    if len(values) == 1:
        found = _bearer(values[0]) if scheme is Scheme.BEARER else _basic(values[0])
        if found is not None:
            return found
    raise NoCredential(scheme)


def challenge(scheme: Scheme) -> str:
    return 'Bearer realm="mesa"' if scheme is Scheme.BEARER else 'Basic realm="mesa"'


def _bearer(value: str) -> str | None:
    match = _BEARER.fullmatch(value)
    return None if match is None else match[1]


def _basic(value: str) -> str | None:
    """The password; git's own credential helpers decide what the user name is."""
    match = _BASIC.fullmatch(value)
    if match is None:
        return None
    try:
        pair = base64.b64decode(match[1], validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    _, colon, password = pair.partition(":")
    return password if colon and password else None
