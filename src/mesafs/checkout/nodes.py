"""The tree of a checkout in memory: what it looks like now, edits included.

A directory's children are loaded from its base tree when somebody first asks for them. A node knows
its inode number, which is also the kernel's node id; numbers of unedited files follow from their
place, so they are the same after every mount, while a created file gets a fresh one.

Plain attributes and no methods that decide: :mod:`mesafs.checkout.checkout` holds the rules, under
its lock.
"""

from __future__ import annotations

import stat
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from mesafs.model.objects import MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK, MODE_TREE, TreeEntry

if TYPE_CHECKING:
    from mesafs.checkout.checkout import Checkout

S_IFDIR, S_IFREG, S_IFLNK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK

#: Signature of an overlay file: modification time, change time and size.
ContentSignature = tuple[int, int, int]


class Node:
    """One file, symlink, directory or special file.

    ``oid``: for a directory the tree it was loaded from (None: made here); for a file the blob that
    its content had when it was last hashed or loaded; for a symlink the blob of its target.
    ``edited`` on a directory: something in or below it differs from ``oid``.
    ``materialised``: the bytes live in the overlay, and size and time are the overlay file's.
    """

    __slots__ = (
        "backing",
        "checkout",
        "children",
        "conflicted",
        "cookie",
        "edited",
        "handles",
        "hidden",
        "ino",
        "local",
        "lookups",
        "materialised",
        "mode",
        "mtime_ns",
        "name",
        "oid",
        "parent",
        "published",
        "rdev",
        "size",
        "stale",
        "target",
        "view",
        "writers",
    )

    def __init__(
        self, checkout: Checkout | None, ino: int, parent: Node | None, name: bytes, mode: int
    ) -> None:
        self.checkout: Any = checkout
        self.ino = ino
        self.cookie = 0  # place in its directory's listing: rises in the order of ``children``
        self.parent = parent  # None once the node has lost its name
        self.name = name
        self.mode = mode
        self.oid: bytes | None = None
        self.size = 0
        self.mtime_ns = 0
        self.children: dict[bytes, Node] | None = None
        self.hidden: tuple[
            TreeEntry, ...
        ] = ()  # entries kept in the tree but not shown: submodules
        self.edited = False
        self.local = False  # a name git cannot carry, or a special file: never published
        self.materialised = False
        self.conflicted = False
        self.view: bytes | None = None  # of a conflicted file: the blob id of the text with markers
        self.published: ContentSignature | None = (
            None  # overlay content that the server is known to have
        )
        self.target: bytes | None = None
        self.rdev = 0
        self.writers = 0
        self.handles = 0
        self.lookups = 0
        self.backing = 0  # the kernel's backing id while a passthrough open lives
        self.stale = False  # the kernel's page cache of this inode is known to be old

    @property
    def is_directory(self) -> bool:
        return self.mode & 0o170000 == S_IFDIR

    @property
    def is_file(self) -> bool:
        return self.mode & 0o170000 == S_IFREG

    @property
    def is_symlink(self) -> bool:
        return self.mode & 0o170000 == S_IFLNK

    def path(self) -> bytes:
        """Slash-separated path from the checkout's root, whose own path is empty."""
        parts = []
        node = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        parts.reverse()
        return b"/".join(parts)

    @property
    def git_mode(self) -> int:
        """What git keeps of the mode."""
        kind = self.mode & 0o170000
        if kind == S_IFDIR:
            return MODE_TREE
        if kind == S_IFLNK:
            return MODE_SYMLINK
        return MODE_EXECUTABLE if self.mode & 0o100 else MODE_FILE


def mode_of_git(mode: int) -> int:
    """The st_mode that a tree entry is shown with; nothing else of a mode is believed."""
    if mode == MODE_TREE:
        return S_IFDIR | 0o755
    if mode == MODE_SYMLINK:
        return S_IFLNK | 0o777
    return S_IFREG | (0o755 if mode & 0o100 else 0o644)


def placed_ino(parent: int, name: bytes) -> int:
    """The inode number of an unedited entry: a hash of its place, the same at every mount."""
    digest = blake2b(name, digest_size=8, key=parent.to_bytes(8)).digest()
    return int.from_bytes(digest) >> 2 | 1 << 61


def mark_edited(node: Node) -> None:
    """Mark a directory and all above it as differing from their trees."""
    at: Node | None = node
    while at is not None and not at.edited:
        at.edited = True
        at = at.parent
