"""The one envelope in which every answer outside 2xx comes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from mesafs.wire.shapes import OMITTED, Misfit, Shape, read

NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
MISSING_OBJECTS = "MISSING_OBJECTS"


@dataclass(frozen=True, slots=True)
class ErrorDetail(Shape):
    """``trace_id`` is set only on 5xx answers."""

    code: str
    message: str
    details: dict[str, Any] | None = field(default=None, metadata=OMITTED)
    trace_id: str | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class ErrorEnvelope(Shape):
    error: ErrorDetail


def parse_envelope(body: bytes) -> ErrorDetail | None:
    """The error in a body, or None when the body is something else, such as a proxy's page."""
    try:
        return read(ErrorEnvelope, json.loads(body)).error
    except (ValueError, RecursionError, Misfit):
        return None
