"""Counts of requests and bytes by operation, for tests, benchmarks and monitoring.

Nothing here names an organisation, a repository or a path.
"""

from __future__ import annotations

import threading
from collections import Counter

PLAIN_TYPE = "text/plain; version=0.0.4"


class Counters:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._received: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()

    def note(self, operation: str, status: int, *, received: int, sent: int) -> None:
        """Count one finished request: body bytes received, head and body bytes sent."""
        with self._lock:
            self._requests[operation, f"{status // 100}xx"] += 1
            self._received[operation] += received
            self._sent[operation] += sent

    def exposition(self) -> str:
        """All counts as text, one a line."""
        with self._lock:
            requests = sorted(self._requests.items())
            received = sorted(self._received.items())
            sent = sorted(self._sent.items())
        lines = ["# TYPE mesa_requests_total counter"]
        lines += [
            f'mesa_requests_total{{operation="{operation}",status="{status}"}} {count}'
            for (operation, status), count in requests
        ]
        for name, counts in (("received", received), ("sent", sent)):
            lines.append(f"# TYPE mesa_{name}_bytes_total counter")
            lines += [
                f'mesa_{name}_bytes_total{{operation="{operation}"}} {count}'
                for operation, count in counts
            ]
        return "\n".join(lines) + "\n"
