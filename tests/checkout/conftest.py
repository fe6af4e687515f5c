"""A checkout on a real disk over a repository in this process."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesafs.base.clock import SystemClock
from mesafs.base.files import Files, Hook
from mesafs.checkout.checkout import Checkout
from mesafs.checkout.fetcher import Wanted
from mesafs.checkout.journal import Identity
from mesafs.checkout.nodes import Node
from mesafs.checkout.ports import NoInvalidations
from mesafs.checkout.publishing import follow, publish
from mesafs.checkout.recovery import Settings, open_checkout
from mesafs.model.ids import PublishId
from mesafs.testing.bookmark import MemoryBookmark

_publish_ids = itertools.count(1)


class Desk:
    """A checkout driven by paths, as a program would; reopened as after the daemon's death."""

    def __init__(self, folder: Path, bookmark: MemoryBookmark, *, hook: Hook | None = None) -> None:
        self.folder = folder
        self.bookmark = bookmark
        self.hook = hook
        self.open()

    def open(self) -> None:
        self.checkout = open_checkout(
            Settings(str(self.folder), str(self.folder / "cache")),
            Identity(b"repo_test", b"desk"),
            self.bookmark.state,
            self.bookmark,
            files=Files(self.hook),
            clock=SystemClock(),
            first_number=int.from_bytes(os.urandom(7)),
            lock=threading.RLock(),
            inodes={},
            invalidations=NoInvalidations(),
        )

    def die(self) -> None:
        """Forget everything in memory, as SIGKILL does, and start again from the disk."""
        self.checkout.journal.close()
        self.checkout.attributes.close()
        self.open()

    def close(self) -> None:
        self.checkout.journal.close()
        self.checkout.attributes.close()

    def do(self, action: Callable[[Checkout], object]) -> object:
        while True:
            try:
                with self.checkout.lock:
                    return action(self.checkout)
            except Wanted as wanted:
                wanted.fetch()

    def node(self, path: bytes) -> Node | None:
        node: Node | None = self.checkout.root
        for name in path.split(b"/") if path else ():
            if node is None:
                return None
            here = node
            found = self.do(lambda c, here=here, name=name: c.lookup(here, name))
            assert found is None or isinstance(found, Node)
            node = found
        return node

    def parent(self, path: bytes) -> tuple[Node, bytes]:
        above, _, name = path.rpartition(b"/")
        node = self.node(above)
        assert node is not None, above
        return node, name

    def write(self, path: bytes, content: bytes) -> None:
        node = self.node(path)
        if node is None:
            parent, name = self.parent(path)
            made = self.do(lambda c: c.create(parent, name, 0o644))
            assert isinstance(made, tuple)
            node, fd = made
        else:
            target = node
            fd = self.do(lambda c: c.open(target, writing=True, truncate=True))
        os.pwrite(fd, content, 0)
        os.close(fd)
        written = node
        self.do(lambda c: c.written(written))

    def append(self, path: bytes, content: bytes) -> None:
        node = self.node(path)
        assert node is not None, path
        fd = self.do(lambda c: c.open(node, writing=True))
        assert isinstance(fd, int)
        os.pwrite(fd, content, os.fstat(fd).st_size)
        os.close(fd)
        self.do(lambda c: c.written(node))

    def read(self, path: bytes) -> bytes:
        node = self.node(path)
        assert node is not None, path
        fd = self.do(lambda c: c.open(node, writing=False))
        assert isinstance(fd, int)
        try:
            return os.pread(fd, 1 << 24, 0)
        finally:
            os.close(fd)

    def mkdir(self, path: bytes) -> None:
        parent, name = self.parent(path)
        self.do(lambda c: c.mkdir(parent, name, 0o755))

    def unlink(self, path: bytes) -> None:
        parent, name = self.parent(path)
        self.do(lambda c: c.unlink(parent, name))

    def rmdir(self, path: bytes) -> None:
        parent, name = self.parent(path)
        self.do(lambda c: c.rmdir(parent, name))

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        parent, name = self.parent(old)
        target, new_name = self.parent(new)
        self.do(lambda c: c.rename(parent, name, target, new_name, flags))

    def symlink(self, path: bytes, target: bytes) -> None:
        parent, name = self.parent(path)
        self.do(lambda c: c.symlink(parent, name, target))

    def files(self, path: bytes = b"") -> dict[bytes, bytes]:
        """Everything below a directory that is a file or a link, by path."""
        node = self.node(path)
        assert node is not None
        found: dict[bytes, bytes] = {}
        children = self.do(lambda c: dict(c.children(node)))
        assert isinstance(children, dict)
        for name, child in children.items():
            below = path + b"/" + name if path else name
            if child.is_directory:
                found |= self.files(below)
            elif child.is_symlink:
                found[below] = self.do(lambda c, child=child: c.readlink(child))  # type: ignore[assignment]
            else:
                found[below] = self.read(below)
        return found

    def publish(self) -> None:
        publish(
            self.checkout,
            self.bookmark,
            self.bookmark,
            lambda: PublishId(f"publish-{next(_publish_ids)}"),
        )

    def publish_all(self) -> None:
        """Publish until nothing is left: a file stamped just now is hashed once more."""
        for _ in range(500):
            if not (self.checkout.is_dirty() or self.checkout.pending):
                return
            self.publish()
        raise AssertionError("never clean")

    def follow(self) -> None:
        follow(self.checkout, self.bookmark, self.bookmark.state)


@pytest.fixture
def bookmark(tmp_path: Path) -> MemoryBookmark:
    return MemoryBookmark(tmp_path)


@pytest.fixture
def make_desk(tmp_path: Path, bookmark: MemoryBookmark) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def make(
        name: str = "desk", hook: Hook | None = None, of: MemoryBookmark | None = None
    ) -> Desk:
        desk = Desk(tmp_path / name, of or bookmark, hook=hook)
        desks.append(desk)
        return desk

    yield make
    for desk in desks:
        desk.close()


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()
