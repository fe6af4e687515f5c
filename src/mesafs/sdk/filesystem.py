"""A repository as a filesystem inside this process: the same checkout as in a mount, without a kernel.

For places where nothing can be mounted. Edits are journaled before a call returns and are on the
server when :meth:`Filesystem.sync` does.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from mesafs.base.clock import Clock, SystemClock
from mesafs.base.files import Files
from mesafs.checkout.checkout import Checkout
from mesafs.checkout.fetcher import Wanted
from mesafs.checkout.journal import Identity
from mesafs.checkout.nodes import Node
from mesafs.checkout.ports import NoInvalidations
from mesafs.checkout.publishing import publish
from mesafs.checkout.recovery import Settings, open_checkout
from mesafs.model.ids import CheckoutId, PublishId
from mesafs.sdk.remote import DirectCaller, RemoteObjects, RemotePublisher
from mesafs.sdk.sync_api import SyncApi

T = TypeVar("T")


class Filesystem:
    """One repository at one bookmark. Paths are text relative to its root; errors are OSError.

    ``folder`` holds the journal, the overlay and the cache; opening it again resumes what was not
    published. One process at a time.
    """

    def __init__(
        self,
        api: SyncApi,
        organisation: str,
        repository: str,
        *,
        folder: Path,
        bookmark: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        state = api.resolve(organisation, [(repository, bookmark)]).repositories[0]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        checkout_id = CheckoutId(_identity(folder))
        caller = DirectCaller(api)
        self._objects = RemoteObjects(caller, state.repository)
        self._publisher = RemotePublisher(caller, state.repository, checkout_id)
        self._lock = threading.RLock()
        self._checkout: Checkout = open_checkout(
            Settings(str(folder), str(folder / "cache")),
            Identity(state.repository.encode(), checkout_id.encode()),
            state,
            self._objects,
            files=Files(),
            clock=clock or SystemClock(),
            first_number=secrets.randbits(60),
            lock=self._lock,
            inodes={},
            invalidations=NoInvalidations(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; what is not published stays in it."""
        self._checkout.journal.close()
        self._checkout.attributes.close()

    # -- looking --------------------------------------------------------------------------------

    def listdir(self, path: str = "") -> list[str]:
        node = self._existing(path)
        if not node.is_directory:
            raise _error(errno.ENOTDIR, path)
        return sorted(os.fsdecode(name) for name in self._run(lambda c: list(c.children(node))))

    def is_dir(self, path: str) -> bool:
        node = self._find(path)
        return node is not None and node.is_directory

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def size(self, path: str) -> int:
        node = self._existing(path)
        return self._run(lambda c: c.measure(node))[0]

    def read(self, path: str) -> bytes:
        """A file's bytes, or a symlink's target."""
        node = self._existing(path)
        if node.is_directory:
            raise _error(errno.EISDIR, path)
        if node.is_symlink:
            return self._run(lambda c: c.readlink(node))
        fd = self._run(lambda c: c.open(node, writing=False))
        with os.fdopen(fd, "rb") as file:
            return file.read()

    # -- editing --------------------------------------------------------------------------------

    def write(self, path: str, content: bytes) -> None:
        """Create a file, or replace its content."""
        node = self._find(path)
        if node is None:
            parent, name = self._parent(path)
            node, fd = self._run(lambda c: c.create(parent, name, 0o644))
        elif node.is_file:
            existing = node
            fd = self._run(lambda c: c.open(existing, writing=True, truncate=True))
        else:
            raise _error(errno.EISDIR if node.is_directory else errno.ELOOP, path)
        written = node
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
        finally:
            self._run(lambda c: c.written(written))

    def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Make a directory; with ``parents`` those above it too, and one that is there is fine."""
        if parents:
            above = path.rpartition("/")[0]
            if above and not self.is_dir(above):
                self.mkdir(above, parents=True)
            if self.is_dir(path):
                return
        parent, name = self._parent(path)
        self._run(lambda c: c.mkdir(parent, name, 0o755))

    def symlink(self, path: str, target: str) -> None:
        parent, name = self._parent(path)
        self._run(lambda c: c.symlink(parent, name, os.fsencode(target)))

    def chmod(self, path: str, mode: int) -> None:
        node = self._existing(path)
        self._run(lambda c: c.set_mode(node, mode))

    def rename(self, old: str, new: str) -> None:
        parent, name = self._parent(old)
        target, new_name = self._parent(new)
        self._run(lambda c: c.rename(parent, name, target, new_name))

    def remove(self, path: str) -> None:
        """Remove a file, a symlink or an empty directory."""
        node = self._existing(path)
        parent, name = self._parent(path)
        if node.is_directory:
            self._run(lambda c: c.rmdir(parent, name))
        else:
            self._run(lambda c: c.unlink(parent, name))

    # -- the server -----------------------------------------------------------------------------

    @property
    def tree(self) -> str:
        """Id of the tree that the server last acknowledged."""
        return self._checkout.base.tree.hex()

    @property
    def change(self) -> str:
        return self._checkout.base.change

    def sync(self) -> None:
        """Return once the server has every edit; its merges with others' edits are shown then."""
        checkout = self._checkout
        while checkout.is_dirty() or checkout.pending is not None:
            publish(
                checkout,
                self._publisher,
                self._objects,
                lambda: PublishId(secrets.token_hex(16)),
            )

    # -- paths ----------------------------------------------------------------------------------

    def _run(self, action: Callable[[Checkout], T]) -> T:
        while True:
            try:
                with self._lock:
                    return action(self._checkout)
            except Wanted as wanted:
                wanted.fetch()

    def _find(self, path: str) -> Node | None:
        node: Node | None = self._checkout.root
        for component in filter(None, path.split("/")):
            if node is None or not node.is_directory:
                return None
            node = self._run(_lookup(node, os.fsencode(component)))
        return node

    def _existing(self, path: str) -> Node:
        node = self._find(path)
        if node is None:
            raise _error(errno.ENOENT, path)
        return node

    def _parent(self, path: str) -> tuple[Node, bytes]:
        above, _, name = path.strip("/").rpartition("/")
        if not name:
            raise _error(errno.EINVAL, path)
        parent = self._existing(above)
        if not parent.is_directory:
            raise _error(errno.ENOTDIR, above)
        return parent, os.fsencode(name)


def _lookup(node: Node, name: bytes) -> Callable[[Checkout], Node | None]:
    return lambda checkout: checkout.lookup(node, name)


def _error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


def _identity(folder: Path) -> str:
    """The checkout's id, drawn once."""
    place = folder / "checkout"
    if not place.exists():
        place.write_text(secrets.token_hex(8))
    return place.read_text()
