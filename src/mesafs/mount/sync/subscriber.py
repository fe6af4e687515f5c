"""Listens to the server's events for all checkouts of a mount, for as long as the mount lives.

A stream that ends, or is silent for two heartbeats, is opened again, with a growing pause between
attempts. The first events of each stream say where every bookmark is now, so nothing is missed
however long the stream was gone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from mesafs.base.clock import Clock
from mesafs.base.errors import Denied, MesaError, Unauthenticated
from mesafs.model.ids import RepositoryId
from mesafs.mount.sync.remote import Server
from mesafs.sdk.event_stream import StateChanged, StreamClosed
from mesafs.sdk.sync_api import EventStream
from mesafs.wire.sync import RepositoryState

log = logging.getLogger(__name__)

_PAUSES_SECONDS = (0.1, 0.3, 1.0, 2.0, 5.0)


class Subscriber:
    """The thread of the event stream."""

    def __init__(
        self,
        server: Server,
        watched: Sequence[tuple[RepositoryId, str | None]],
        *,
        clock: Clock,
        on_state: Callable[[RepositoryState], None],
        on_closed: Callable[[StreamClosed], None],
    ) -> None:
        self._server = server
        self._watched = watched
        self._clock = clock
        self._on_state = on_state
        self._on_closed = on_closed
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._stream: EventStream | None = None
        self._thread = threading.Thread(target=self._run, name="sync-events", daemon=True)
        #: Whether a stream is open now.
        self.connected = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._stream is not None:
            self._stream.close()

    def reconnect(self) -> None:
        """Open a new stream at once: the credential was renewed."""
        self._wake.set()
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            self._wake.clear()
            heard = False
            try:
                heard = self._listen()
            except (Unauthenticated, Denied) as error:
                self._server.on_refused(error)
                failures = len(_PAUSES_SECONDS)
            except MesaError as error:
                if failures == 0:
                    log.warning("the event stream broke: %s", error.message)
                self._server.unreachable = error.message
            except Exception:
                log.exception("a bug ended the event stream; it is opened again")
            self.connected = False
            failures = 0 if heard else failures + 1
            if not self._stop.is_set():
                pause = _PAUSES_SECONDS[min(failures, len(_PAUSES_SECONDS) - 1)]
                self._clock.wait(self._wake, pause)

    def _listen(self) -> bool:
        """Pass on events until the stream ends; whether there was any."""
        heard = False
        with self._server.api.events(self._watched) as stream:
            self._stream = stream
            if self._stop.is_set():
                return heard
            self.connected = True
            self._server.reached()
            for event in stream:
                heard = True
                if isinstance(event, StateChanged):
                    self._on_state(event.state)
                else:
                    self._on_closed(event)
                    return False
        return heard
