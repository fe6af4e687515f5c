"""One root for every error of ours, and the eight kinds that say what a caller can do about it.

Classes live beside the code that raises them. They carry their facts as attributes and declare a
``kind``; each edge (HTTP, kernel, command line) translates the kind once, by the tables below.
"""

from __future__ import annotations

import errno
from enum import Enum
from typing import ClassVar


class ErrorKind(Enum):
    """What a caller can do: fix the request, present a credential, ask for more, look elsewhere, …"""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    EXHAUSTED = "exhausted"
    UNAVAILABLE = "unavailable"
    CORRUPT = "corrupt"


HTTP_STATUS: dict[ErrorKind, int] = {
    ErrorKind.INVALID: 400,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.DENIED: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.CONFLICT: 409,
    ErrorKind.EXHAUSTED: 400,
    ErrorKind.UNAVAILABLE: 500,
    ErrorKind.CORRUPT: 500,
}

ERRNO: dict[ErrorKind, int] = {
    ErrorKind.INVALID: errno.EINVAL,
    ErrorKind.UNAUTHENTICATED: errno.EACCES,
    ErrorKind.DENIED: errno.EACCES,
    ErrorKind.NOT_FOUND: errno.ENOENT,
    ErrorKind.CONFLICT: errno.ESTALE,
    ErrorKind.EXHAUSTED: errno.ENOSPC,
    ErrorKind.UNAVAILABLE: errno.EIO,
    ErrorKind.CORRUPT: errno.EIO,
}

EXIT_STATUS: dict[ErrorKind, int] = {
    ErrorKind.INVALID: 2,
    ErrorKind.UNAUTHENTICATED: 4,
    ErrorKind.DENIED: 4,
    ErrorKind.NOT_FOUND: 1,
    ErrorKind.CONFLICT: 1,
    ErrorKind.EXHAUSTED: 1,
    ErrorKind.UNAVAILABLE: 75,
    ErrorKind.CORRUPT: 70,
}


class MesaError(Exception):
    """Root of all errors of this product.

    ``message`` is for the person who reads it at night, ``hint`` names the remedy if one is known,
    ``code`` is the machine-readable word that REST answers in its envelope.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.INVALID
    default_code: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code or DEFAULT_CODES[self.kind]

    def __str__(self) -> str:
        return self.message


DEFAULT_CODES: dict[ErrorKind, str] = {
    ErrorKind.INVALID: "INVALID_REQUEST",
    ErrorKind.UNAUTHENTICATED: "UNAUTHENTICATED",
    ErrorKind.DENIED: "PERMISSION_DENIED",
    ErrorKind.NOT_FOUND: "NOT_FOUND",
    ErrorKind.CONFLICT: "CONFLICT",
    ErrorKind.EXHAUSTED: "LIMIT_EXCEEDED",
    ErrorKind.UNAVAILABLE: "UNAVAILABLE",
    ErrorKind.CORRUPT: "INTERNAL_ERROR",
}


class Invalid(MesaError):
    """The request itself is wrong; the message names the field."""

    kind = ErrorKind.INVALID


class Unauthenticated(MesaError):
    """No valid credential was presented."""

    kind = ErrorKind.UNAUTHENTICATED


class Denied(MesaError):
    """The credential is valid and does not grant this."""

    kind = ErrorKind.DENIED


class NotFound(MesaError):
    """No such thing, or none that this caller may know of."""

    kind = ErrorKind.NOT_FOUND


class Conflict(MesaError):
    """The state is not what the request assumed; reload and try again."""

    kind = ErrorKind.CONFLICT


class Exhausted(MesaError):
    """A limit was reached; free something or wait."""

    kind = ErrorKind.EXHAUSTED


class Unavailable(MesaError):
    """Not now; the same request may succeed later."""

    kind = ErrorKind.UNAVAILABLE


class Corrupt(MesaError):
    """Stored data is not what it must be; stop and look."""

    kind = ErrorKind.CORRUPT
