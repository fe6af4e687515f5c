"""The opening section of a journal generation: what differs from the base, stated once.

Written at each acknowledged publish, from the tree in memory; read back by
:mod:`mesafs.checkout.recovery`. Its size follows what is edited or local, not the repository.

Records: ``W`` path is not as in the base tree (removed, or replaced by what follows); ``D`` directory
made here; ``G`` directory with the tree it is loaded from; ``F`` file in the overlay; ``f`` file that is
an object; ``L`` symlink; ``N`` special file. Parents come before what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesafs.checkout.checkout import Checkout
from mesafs.checkout.nodes import Node
from mesafs.model.ids import TreeId
from mesafs.model.objects import MODE_GITLINK, MODE_TREE
from mesafs.wire.sync import ListedEntry


class MissingBaseTree(Exception):
    """A tree needed to state the difference is not in the cache."""

    def __init__(self, tree: TreeId) -> None:
        super().__init__(tree.hex())
        self.tree = tree


def describe(checkout: Checkout) -> Iterator[bytes]:
    """All records of the section, the base first. Called with the lock held."""
    yield checkout.base.encode()
    if checkout.pending is not None:
        yield checkout.pending.encode()
    visit: set[int] = set()
    for table in (checkout.materialised, checkout.unversioned):
        for node in table.values():
            above = node.parent
            while above is not None and above.ino not in visit:
                visit.add(above.ino)
                above = above.parent
    if checkout.root.children is not None:  # else nobody has looked, let alone edited
        yield from _directory(checkout, checkout.root, b"", checkout.base.tree, visit)


def _directory(
    checkout: Checkout, node: Node, prefix: bytes, tree: TreeId | None, visit: set[int]
) -> Iterator[bytes]:
    base: dict[bytes, ListedEntry] = {}
    if tree is not None:
        entries = checkout.cache.tree(tree)
        if entries is None:
            raise MissingBaseTree(tree)
        base = {entry.name: entry for entry in entries if entry.mode != MODE_GITLINK}
    assert node.children is not None, "a directory that differs is loaded"
    for name in base.keys() - node.children.keys():
        yield b"W\0" + prefix + name
    for name, child in node.children.items():
        yield from _child(checkout, child, prefix + name, base.get(name), visit)


def _child(
    checkout: Checkout, child: Node, path: bytes, base: ListedEntry | None, visit: set[int]
) -> Iterator[bytes]:
    if child.is_directory:
        if base is not None and base.mode == MODE_TREE:
            if child.edited or child.ino in visit:
                yield from _directory(checkout, child, path + b"/", TreeId(base.id), visit)
                return
            if child.oid == base.id:
                return
        if base is not None:
            yield b"W\0" + path
        if child.children is None:
            assert child.oid is not None, "an unloaded directory has a tree"
            yield b"G\0%s\0%d\0%d\0%s" % (path, child.ino, child.mode, child.oid.hex().encode())
            return
        yield b"D\0%s\0%d\0%d" % (path, child.ino, child.mode)
        yield from _directory(checkout, child, path + b"/", None, visit)
        return
    same = base is not None and base.id == child.oid and base.mode == child.git_mode
    if child.is_file and child.materialised:
        if base is not None:
            yield b"W\0" + path
        # An object that the server may lack is not named: the next snapshot must send it again.
        oid = b"" if child.oid in checkout.unsent else (child.oid or b"").hex().encode()
        mtime_ns = child.published[0] if child.published is not None else 0
        yield b"F\0%s\0%d\0%d\0%s\0%d\0%d" % (
            path,
            child.ino,
            child.mode,
            oid,
            child.size,
            mtime_ns,
        )
        return
    if same:
        return
    if base is not None:
        yield b"W\0" + path
    if child.is_symlink:
        if child.target is None:
            oid = (child.oid or b"").hex().encode()
            yield b"l\0%s\0%d\0%d\0%s" % (path, child.ino, child.size, oid)
        else:
            yield b"L\0%s\0%d\0%s" % (path, child.ino, child.target)
    elif child.is_file:
        assert child.oid is not None, "a file is materialised or has an object"
        yield b"f\0%s\0%d\0%d\0%s\0%d\0%d" % (
            path,
            child.ino,
            child.mode,
            child.oid.hex().encode(),
            child.size,
            child.mtime_ns,
        )
    else:
        yield b"N\0%s\0%d\0%d" % (path, child.ino, child.mode)
