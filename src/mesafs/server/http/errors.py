"""Errors as answers: the kind decides the status, and the body is always the contract's envelope."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from starlette.responses import Response

from mesafs.base.errors import HTTP_STATUS, ErrorKind, Invalid, MesaError
from mesafs.wire.errors import ErrorDetail, ErrorEnvelope

RETRY_AFTER_SECONDS = 1


class NotAcceptable(Invalid):
    """The form that was asked for does not exist for this thing."""

    default_code: ClassVar[str | None] = "NOT_ACCEPTABLE"


def status_of(error: MesaError, *, may_answer_503: bool = False) -> int:
    if isinstance(error, NotAcceptable):
        return 406
    if error.kind is ErrorKind.UNAVAILABLE and may_answer_503:
        return 503
    return HTTP_STATUS[error.kind]


def envelope(error: MesaError, *, request_id: str, may_answer_503: bool = False) -> Response:
    """The answer for an error that we know."""
    status = status_of(error, may_answer_503=may_answer_503)
    details: dict[str, Any] = dict(getattr(error, "details", None) or {})
    if error.hint is not None:
        details["hint"] = error.hint
    response = _answer(status, error.code, error.message, details or None, request_id)
    if error.kind is ErrorKind.UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def unexpected(*, request_id: str) -> Response:
    """The answer for a bug of ours: nothing of it is told but where to find it."""
    return _answer(
        500,
        "INTERNAL_ERROR",
        "the server met an error of its own; its log has it under this trace_id",
        None,
        request_id,
    )


def _answer(
    status: int, code: str, message: str, details: dict[str, Any] | None, request_id: str
) -> Response:
    trace_id = request_id if status >= 500 else None
    body = ErrorEnvelope(ErrorDetail(code, message, details, trace_id)).to_json()
    # Escaped to ASCII: whatever name stands in a message, the body can be encoded.
    return Response(json.dumps(body).encode(), status, media_type="application/json")
