"""Server-sent events of the sync protocol: from lines to values, without I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mesafs.sdk.errors import Unreachable
from mesafs.wire.sync import RepositoryState


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A watched bookmark stands here now. ``number`` is what to resume after."""

    number: int
    state: RepositoryState


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The server ends the stream: revoked, expired, narrowed, deleted or shutdown."""

    reason: str
    message: str


StreamEvent = StateChanged | StreamClosed


class EventParser:
    """Collects lines; a blank one completes an event. Comments and unknown events are passed over."""

    def __init__(self) -> None:
        self._kind = ""
        self._number = 0
        self._data: list[str] = []

    def feed(self, line: bytes) -> StreamEvent | None:
        """Take one line, with or without its end; give the event that it completes."""
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            return self._complete()
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and value.isascii() and value.isdigit():
            self._number = int(value)
        return None

    def _complete(self) -> StreamEvent | None:
        kind, data = self._kind, "\n".join(self._data)
        self._kind, self._data = "", []
        if kind == "state":
            return StateChanged(self._number, RepositoryState.from_json(_json(data)))
        if kind == "closed":
            body = _json(data)
            reason = body.get("reason") if isinstance(body, dict) else None
            message = body.get("message") if isinstance(body, dict) else None
            return StreamClosed(str(reason), str(message))
        return None


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Unreachable("the server's event stream holds an event that is not JSON") from None
