"""The server of a mount: patient for a stated time, then clear.

A read that needs the network waits at most ``READ_SECONDS`` while the server does not answer. Once it
is known to be away, further reads try once and fail, or fail without trying where a try takes long, so
that a search through a thousand files that are not here does not wait a thousand times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from mesafs.base.clock import Clock
from mesafs.base.errors import Denied, MesaError, Unauthenticated, Unavailable
from mesafs.sdk.sync_api import SyncApi

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_KNOWN_AWAY_SECONDS = 5.0
#: After a wait that long for nothing, reads fail at once for as long again.
_SILENT_SECONDS = 2.0

T = TypeVar("T")


class Server:
    """The current API of a mount, replaced when its credential is; shared by all its checkouts."""

    def __init__(self, api: SyncApi, patient: SyncApi, clock: Clock) -> None:
        self.api = api
        #: The same with longer time limits: a server takes a while to check a large pack.
        self.patient = patient
        self._clock = clock
        self._away_until = 0.0
        self._silent_until = 0.0
        self._stopping = threading.Event()
        #: Told of every refusal of the credential.
        self.on_refused: Callable[[MesaError], None] = lambda error: None
        #: Why the server could not be reached last, None while it can.
        self.unreachable: str | None = None

    def stop(self) -> None:
        """Let nobody wait any longer."""
        self._stopping.set()

    def call(self, action: Callable[[SyncApi], T], *, seconds: float, patiently: bool = False) -> T:
        """Run ``action``, again while the server does not answer, for at most ``seconds``."""
        began = self._clock.monotonic()
        if seconds and began < self._silent_until:
            raise Unavailable(self.unreachable or "the server does not answer")
        deadline = began + seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                result = action(self.patient if patiently else self.api)
            except Unavailable as error:
                self.unreachable = error.message
                now = self._clock.monotonic()
                if now - began > _SILENT_SECONDS:
                    self._silent_until = now + _SILENT_SECONDS
                known_away = now < self._away_until
                self._away_until = now + _KNOWN_AWAY_SECONDS
                if known_away or now + pause > deadline or self._stopping.is_set():
                    raise
                self._clock.wait(self._stopping, pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except (Unauthenticated, Denied) as error:
                self.on_refused(error)
                raise
            else:
                self.reached()
                return result

    def reached(self) -> None:
        """The server answered."""
        self.unreachable = None
        self._away_until = self._silent_until = 0.0
