"""Bringing wanted objects into the cache, each once, however many readers wait for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from mesafs.base.errors import Corrupt, Unavailable
from mesafs.checkout.object_cache import ObjectCache, UntrustedObject
from mesafs.checkout.ports import Objects
from mesafs.model.ids import BlobId, TreeId

_FIRST_TREES_BYTES = 256 << 10
_MORE_TREES_BYTES = 1 << 20
#: A reader waits this long for another reader's fetch of the same object before it fetches itself.
_SHARED_WAIT_SECONDS = 30.0


class Wanted(Exception):
    """Raised by a checkout's method, before it changed anything, when objects must be fetched first.

    The caller leaves the lock, calls ``fetch`` and repeats the method.
    """

    def __init__(
        self, fetcher: Fetcher, *, trees: Sequence[TreeId] = (), blobs: Sequence[BlobId] = ()
    ) -> None:
        super().__init__()
        self._fetcher = fetcher
        self.trees = trees
        self.blobs = blobs

    def fetch(self) -> None:
        """Get the objects; errors are MesaErrors, and nothing was stored that is not verified."""
        if self.trees:
            self._fetcher.trees(self.trees)
        if self.blobs:
            self._fetcher.blobs(self.blobs)


class Fetcher:
    """Fetches through the port into the cache."""

    def __init__(self, objects: Objects, cache: ObjectCache) -> None:
        self._objects = objects
        self._cache = cache
        self._lock = threading.Lock()
        self._under_way: dict[bytes, threading.Event] = {}
        self._trees_bytes = _FIRST_TREES_BYTES

    def trees(self, ids: Sequence[TreeId]) -> None:
        mine, others = self._claim(ids)
        try:
            if mine:
                wanted = {TreeId(oid) for oid in mine}
                budget, self._trees_bytes = self._trees_bytes, _MORE_TREES_BYTES
                answer = self._objects.trees(list(wanted), max_bytes=budget)
                kept = self._cache.store_trees(wanted, answer)
                missing = wanted - kept.keys()
                if missing:
                    raise Unavailable(f"the server did not send tree {next(iter(missing)).hex()}")
        finally:
            self._release(mine)
        self._await(others)

    def blobs(self, ids: Sequence[BlobId]) -> None:
        """Fetch ``ids``; only the first is owed to the caller, the others are a prefetch."""
        mine, others = self._claim(ids)
        owed = ids[0]
        try:
            if mine:
                self._receive([BlobId(oid) for oid in mine], owed)
        finally:
            self._release(mine)
        self._await([event for event in others if owed not in mine][:1])

    def _receive(self, ids: list[BlobId], owed: BlobId) -> None:
        asked = set(ids)
        for blob, size, content in self._objects.blobs(ids):
            if blob not in asked:
                raise UntrustedObject(f"the server sent blob {blob.hex()}, which was not asked for")
            asked.discard(blob)
            if size is None:
                if blob == owed:
                    raise Corrupt(
                        f"the server does not have blob {blob.hex()}, which a tree of its names",
                        hint="ask the server's operator to run a check of the repository",
                    )
                continue
            self._cache.store_blob(blob, size, content)
        if owed in asked:
            raise Unavailable(f"the server did not send blob {owed.hex()}")

    def _claim(self, ids: Sequence[bytes]) -> tuple[list[bytes], list[threading.Event]]:
        mine, others = [], []
        with self._lock:
            for oid in ids:
                event = self._under_way.get(oid)
                if event is None:
                    self._under_way[oid] = threading.Event()
                    mine.append(oid)
                else:
                    others.append(event)
        return mine, others

    def _release(self, ids: list[bytes]) -> None:
        with self._lock:
            for oid in ids:
                self._under_way.pop(oid).set()

    def _await(self, events: list[threading.Event]) -> None:
        for event in events:
            event.wait(_SHARED_WAIT_SECONDS)
