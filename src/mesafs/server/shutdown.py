"""Tells long answers that the server is about to end, so that draining does not wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Shutdown:
    """Begins once. Callbacks run in the thread that begins it, and must return at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def begun(self) -> bool:
        return self._begun

    def begin(self) -> None:
        with self._lock:
            if self._begun:
                return
            self._begun = True
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            callback()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` when the end begins, at once if it has; returns what ends that."""
        with self._lock:
            begun = self._begun
            if not begun:
                self._callbacks.append(callback)
        if begun:
            callback()
            return lambda: None
        return lambda: self._forget(callback)

    def _forget(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
