"""Watches the clock for the credential's end, and a credential file for its successor."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from mesafs.base.clock import Clock
from mesafs.base.errors import MesaError
from mesafs.mount.sync.credential import Access, CredentialState

log = logging.getLogger(__name__)

_LONGEST_SECONDS = 5.0
_MAX_CREDENTIAL_BYTES = 8192


class Renewal:
    """A thread that wakes at expiry, and every few seconds where there is a file to look at."""

    def __init__(
        self,
        access: Access,
        *,
        clock: Clock,
        credential_file: Path | None,
        renew: Callable[[str], None],
    ) -> None:
        self._access = access
        self._clock = clock
        self._file = credential_file
        self._renew = renew
        self._stop = threading.Event()
        self._seen = self._stamp()
        self._thread = threading.Thread(target=self._run, name="credential", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._clock.wait(self._stop, self._pause()):
            expires = self._access.expires_at_seconds
            if expires is not None and self._clock.now_ns() >= expires * 1_000_000_000:
                self._access.refused(CredentialState.EXPIRED, "its time is over")
            if self._file is not None and self._stamp() != self._seen:
                self._seen = self._stamp()
                self._take()

    def _pause(self) -> float:
        expires = self._access.expires_at_seconds
        if expires is None or self._access.state is not CredentialState.VALID:
            return _LONGEST_SECONDS
        left = expires - self._clock.now_ns() / 1_000_000_000
        return min(max(left, 0.0) + 0.001, _LONGEST_SECONDS)

    def _stamp(self) -> tuple[int, int, int] | None:
        if self._file is None:
            return None
        try:
            st = os.stat(self._file)
        except OSError:
            return None
        return st.st_ino, st.st_mtime_ns, st.st_size

    def _take(self) -> None:
        assert self._file is not None, "checked by the caller"
        try:
            text = self._file.read_bytes()[:_MAX_CREDENTIAL_BYTES].decode("ascii").strip()
            self._renew(text)
            log.info("took a new credential from %s", self._file)
        except (OSError, UnicodeDecodeError, MesaError) as error:
            log.warning("the new credential in %s was not taken: %s", self._file, error)
