"""Rewrites the packs of repositories that have gathered too many, one after the other, in the background.

Nothing waits for it. It ends with the server: a rewrite that is cut off has changed nothing.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress

from mesafs.base.errors import MesaError
from mesafs.git.repacking import needs_repacking, repack, sweep
from mesafs.model.ids import RepositoryId
from mesafs.server.backing import Backing
from mesafs.server.logs import LOGGER

#: A repository is looked at once in so many writes.
LOOK_EVERY = 10


class Maintenance:
    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._asked: queue.SimpleQueue[RepositoryId | None] = queue.SimpleQueue()
        self._writes: dict[RepositoryId, int] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        backing.shutdown.subscribe(lambda: self._asked.put(None))

    def wrote(self, repository: RepositoryId) -> None:
        """Note that a repository has got another pack; cheap."""
        with self._lock:
            count = self._writes[repository] = self._writes.get(repository, 0) + 1
            if count % LOOK_EVERY:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="maintenance", daemon=True)
                self._thread.start()
        self._asked.put(repository)

    def _work(self) -> None:
        while (repository := self._asked.get()) is not None:
            if self._backing.shutdown.begun:
                return
            try:
                self._tend(repository)
            except (MesaError, OSError) as error:
                LOGGER.error("packs could not be rewritten", exc_info=error)

    def _tend(self, repository: RepositoryId) -> None:
        backing = self._backing
        path = backing.objects.path(repository)
        removed = sweep(path, backing.files, backing.clock)
        if needs_repacking(path):
            repack(path, backing.files, backing.clock)
            removed += 1
        if removed:
            with suppress(OSError):
                backing.objects.open(repository).reopen()
