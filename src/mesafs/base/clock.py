"""Time as an argument: the wall clock for people and tokens, the monotonic one for durations."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now_ns(self) -> int:
        """Wall time in nanoseconds since the epoch; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that only rise; for durations and deadlines."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until ``event`` is set or ``seconds`` have passed; True when it is set."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


def seconds(clock: Clock) -> int:
    """Whole seconds of wall time since the epoch."""
    return clock.now_ns() // 1_000_000_000


def rfc3339(now_ns: int) -> str:
    """``YYYY-MM-DDTHH:MM:SS.mmm+00:00``: the one spelling every published client parses."""
    whole, rest = divmod(now_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(whole, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}+00:00"
