"""Structured logs: one JSON object a line on standard error, each with its request's id.

A record carries facts in ``extra={"facts": {...}}``. Nobody passes a credential, a query string or
a body to it.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("mesafs.server")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= getattr(record, "facts", {})
        if record.exc_info is not None and record.exc_info[1] is not None:
            line["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, default=str)


def configure(level: int = logging.INFO) -> None:
    """Send everything that is logged in this process to standard error, as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # They repeat what our own lines say, with paths that may hold names.
    for name in ("uvicorn.access", "alembic", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
