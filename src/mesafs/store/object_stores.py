"""Where the repositories' objects are on disk: ``<data folder>/repositories/<id>.git``.

The folder of a repository is its id, never its name.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from mesafs.base.files import Files
from mesafs.git.repository import ObjectStore, clear_staged
from mesafs.model.ids import RepositoryId

#: Each open store holds file descriptors of its packs.
MAX_OPEN = 256


class ObjectStores:
    """Opens each repository's store once and keeps those in use."""

    def __init__(self, root: Path, files: Files) -> None:
        self._root = root
        self._files = files
        self._open: OrderedDict[RepositoryId, ObjectStore] = OrderedDict()
        self._lock = threading.Lock()

    def create(self, repository: RepositoryId) -> ObjectStore:
        """Make a store on disk, durable before any row names it; repeatable."""
        return ObjectStore.create(self.path(repository), self._files)

    def open(self, repository: RepositoryId) -> ObjectStore:
        with self._lock:
            found = self._open.get(repository)
            if found is None:
                found = self._open[repository] = ObjectStore(self.path(repository), self._files)
                if len(self._open) > MAX_OPEN:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(repository)
            return found

    def path(self, repository: RepositoryId) -> Path:
        assert repository.isalnum(), "repository ids are made by us"
        return self._root / f"{repository}.git"

    def clear_staged(self) -> None:
        """At start: remove what a crash left half received anywhere."""
        for folder in self._root.glob("*.git"):
            clear_staged(folder)
