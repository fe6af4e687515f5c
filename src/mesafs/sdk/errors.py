"""Errors of the client library, under the names that the published SDK uses.

Each is also one of ``mesafs.base.errors``: a :class:`NotFoundError` *is* a ``NotFound``, so the
command line, the mount and SDK users meet one set of errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mesafs.base.errors import (
    Conflict,
    Denied,
    Exhausted,
    Invalid,
    MesaError,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from mesafs.wire.errors import MISSING_OBJECTS, ErrorDetail, ErrorEnvelope, parse_envelope


class MissingCredentialError(Unauthenticated):
    default_code: ClassVar[str | None] = "MISSING_CREDENTIAL"

    def __init__(self, variable: str = "MESA_API_KEY") -> None:
        super().__init__(
            "no API key or access token was given",
            hint=f"set {variable}, or pass api_key",
        )


MissingApiKeyError = MissingCredentialError


class InvalidApiUrlError(Invalid):
    default_code: ClassVar[str | None] = "INVALID_API_URL"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the server's URL {why}", hint="MESA_API_URL is like https://mesa.example.org"
        )


class OrgResolutionError(Invalid):
    default_code: ClassVar[str | None] = "ORG_RESOLUTION_FAILED"


class InvalidOptionsError(Invalid, ValueError):
    default_code: ClassVar[str | None] = "INVALID_OPTIONS"


class ApiError(MesaError):
    """An answer outside 2xx.

    ``code`` is ``API_ERROR_<status>`` as in the published SDK; the server's own word is
    ``server_code``, and the whole envelope ``body`` (None when the answer had none).
    """

    def __init__(
        self,
        status_code: int,
        body: ErrorEnvelope | None,
        message: str | None = None,
        *,
        hint: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        detail = None if body is None else body.error
        text = message or (detail.message if detail else f"the server answered {status_code}")
        if hint is None and detail is not None and detail.details is not None:
            given = detail.details.get("hint")
            hint = given if isinstance(given, str) else None
        super().__init__(text, hint=hint, code=f"API_ERROR_{status_code}")
        self.status_code = status_code
        self.body = body
        self.retry_after_seconds = retry_after_seconds

    @property
    def server_code(self) -> str | None:
        return None if self.body is None else self.body.error.code

    @property
    def details(self) -> dict[str, Any]:
        return (self.body.error.details or {}) if self.body is not None else {}


class AuthenticationError(ApiError, Unauthenticated):
    """401."""


class AuthorizationError(ApiError, Denied):
    """403."""


class NotFoundError(ApiError, NotFound):
    """404."""


class ValidationError(ApiError, Invalid):
    """400 and 406."""


class LimitExceededError(ValidationError, Exhausted):
    """400 with ``LIMIT_EXCEEDED``."""

    kind = Exhausted.kind


class ConflictError(ApiError, Conflict):
    """409."""


class RateLimitError(ApiError, Exhausted):
    """429."""


class ServerError(ApiError, Unavailable):
    """5xx."""


class MissingObjects(ConflictError):
    """A publish names objects that the server does not have: send these, then publish again."""

    def __init__(self, status_code: int, body: ErrorEnvelope, missing: tuple[bytes, ...]) -> None:
        super().__init__(status_code, body)
        self.missing = missing


class UnexpectedAnswer(ServerError):
    """What answered is not a mesa server, or something stands between: a proxy, a login page."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        kind = headers.get("content-type", "").split(";")[0].strip()[:60] or "no content type"
        what = (
            f"a redirect to {headers['location'][:200]!r}"
            if 300 <= status < 400 and "location" in headers
            else f"{len(body)} bytes of {kind}"
        )
        super().__init__(
            status,
            None,
            f"the server's URL answered {status} with {what}, which no mesa server sends",
            hint="check MESA_API_URL and what stands between here and the server",
            retry_after_seconds=_retry_after(headers),
        )


class Unreachable(Unavailable):
    """No answer at all: refused, timed out, cut off, or not to be trusted."""

    retry_after_seconds: float | None = None


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error that an answer outside 2xx describes."""
    detail = parse_envelope(body)
    if detail is None:
        return UnexpectedAnswer(status, headers, body)
    envelope = ErrorEnvelope(detail)
    if status == 409 and detail.code == MISSING_OBJECTS:
        return MissingObjects(status, envelope, _missing(detail))
    if status == 400 and detail.code == "LIMIT_EXCEEDED":
        return LimitExceededError(status, envelope)
    cls = _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
    return cls(status, envelope, retry_after_seconds=_retry_after(headers))


_BY_STATUS: dict[int, type[ApiError]] = {
    400: ValidationError,
    401: AuthenticationError,
    403: AuthorizationError,
    404: NotFoundError,
    406: ValidationError,
    409: ConflictError,
    429: RateLimitError,
}


def _missing(detail: ErrorDetail) -> tuple[bytes, ...]:
    ids = (detail.details or {}).get("missing")
    found: list[bytes] = []
    for text in ids if isinstance(ids, list) else ():
        try:
            found.append(bytes.fromhex(text))
        except (TypeError, ValueError):
            continue
    return tuple(found)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
