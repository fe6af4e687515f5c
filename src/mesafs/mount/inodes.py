"""Everything the kernel can name: the synthetic folders of the mount, and every checkout below them.

``<mount point>/<organisation>/<repository>`` is one tree to the kernel. The first two levels are
made here and cannot be edited; a checkout's root hangs below its organisation. One table maps node
ids, which are the nodes' inode numbers, and one lock guards all of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from mesafs.checkout.checkout import Checkout
from mesafs.checkout.nodes import S_IFDIR, Node, placed_ino
from mesafs.mount.fuse.abi import ROOT_NODE
from mesafs.mount.fuse.notifications import Notifier


class Inodes:
    """The table, its lock, and the two synthetic levels."""

    def __init__(self, *, made_ns: int) -> None:
        self.lock = threading.RLock()
        self.table: dict[int, Node] = {}
        self.checkouts: list[Checkout] = []
        self._made_ns = made_ns
        self.root = self._folder(ROOT_NODE, None, b"")

    def add(self, organisation: bytes, name: bytes, checkout: Checkout) -> None:
        """Show a checkout as ``organisation/name``."""
        assert self.root.children is not None, "synthetic folders have their children"
        with self.lock:
            folder = self.root.children.get(organisation)
            if folder is None:
                folder = self._folder(placed_ino(ROOT_NODE, organisation), self.root, organisation)
                folder.cookie = len(self.root.children) + 1
                self.root.children[organisation] = folder
            assert folder.children is not None, "synthetic folders have their children"
            checkout.root.name = name  # for listings; a path starts below it
            checkout.root.cookie = len(folder.children) + 1
            folder.children[name] = checkout.root
            self.checkouts.append(checkout)

    def named(self) -> Iterator[tuple[str, Checkout]]:
        """Each checkout with its place, ``organisation/name``."""
        for organisation, folder in (self.root.children or {}).items():
            for name, node in (folder.children or {}).items():
                yield os.fsdecode(organisation + b"/" + name), node.checkout

    def _folder(self, ino: int, parent: Node | None, name: bytes) -> Node:
        node = Node(None, ino, parent, name, S_IFDIR | 0o755)
        node.children = {}
        node.mtime_ns = self._made_ns
        node.lookups = 1
        self.table[ino] = node
        return node


class KernelInvalidations:
    """Tells the kernel, through the notifier's queue, what a checkout says it must forget."""

    def __init__(self) -> None:
        self.notifier: Notifier | None = None  # known once the session is up

    def content(self, ino: int) -> None:
        if self.notifier is not None:
            self.notifier.inval_inode(ino)

    def entry(self, parent: int, name: bytes) -> None:
        if self.notifier is not None:
            self.notifier.inval_entry(parent, name)
            self.notifier.inval_inode(parent)

    def removed(self, parent: int, child: int, name: bytes) -> None:
        if self.notifier is not None:
            self.notifier.delete_entry(parent, child, name)
            self.notifier.inval_inode(parent)
