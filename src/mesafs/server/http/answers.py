"""Answers of the REST interface: shapes of ``mesafs.wire`` as JSON."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from mesafs.wire.shapes import Shape


def answer(shape: Shape, status: int = 200) -> Response:
    return json_answer(shape.to_json(), status)


def json_answer(value: Any, status: int = 200) -> Response:
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(body, status, media_type="application/json")
