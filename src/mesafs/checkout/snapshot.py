"""Turning local edits into trees and a pack of what the server does not have.

Content is read and hashed outside the lock, while programs go on writing; a file that changes under
the reading is read again, and stays edited when it will not hold still. Trees are built under the
lock. Directories that went into a snapshot count as unedited from then on, so that edits made during
the publish are seen as new; :func:`restore` takes that back when the publish fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1

from mesafs.checkout.checkout import Checkout, signature
from mesafs.checkout.nodes import ContentSignature, Node, mark_edited
from mesafs.git.objects import serialise_tree, tree_id
from mesafs.git.packs import OBJECT_BLOB, OBJECT_TREE
from mesafs.model.ids import EMPTY_TREE, BlobId, TreeId
from mesafs.model.objects import MODE_TREE
from mesafs.wire.sync import ListedEntry

_READ_TRIES = 3
_STREAM_ABOVE_BYTES = 8 << 20
#: Below this age of a file's time a further write may leave its signature as it is (kernels before
#: 6.13 stamp with the timer tick), so the file is hashed once more before it counts as published.
_RACY_NS = 20_000_000

#: Takes (kind, id, content) of an object for the pack; content may be a descriptor and a size.
AddObject = Callable[[int, bytes, "bytes | tuple[int, int]"], None]


@dataclass(slots=True)
class HashedFile:
    """A file as it went into a snapshot."""

    node: Node
    oid: BlobId
    size: int
    signature: ContentSignature
    racy: bool


@dataclass(slots=True)
class Snapshot:
    """What was seen, and the number of the last edit that may be in it."""

    tree: TreeId
    number: int
    files: list[HashedFile]
    directories: list[Node] = field(default_factory=list)
    trees: dict[TreeId, list[ListedEntry]] = field(default_factory=dict)
    contents: dict[TreeId, bytes] = field(default_factory=dict)
    symlinks: list[tuple[bytes, bytes]] = field(default_factory=list)
    touched_conflicts: tuple[bytes, ...] = ()
    sent: set[bytes] = field(default_factory=set)


def take(checkout: Checkout, add: AddObject, *, hold_back: set[int] | None = None) -> Snapshot:
    """Hash what changed, build trees, and give new objects to ``add``.

    ``hold_back`` are inode numbers of large files that keep changing: they go in as last published.
    """
    checkout.files.reached("snapshot.tree")
    with checkout.lock:
        number = checkout.journal.number
        nodes = list(checkout.edited_files.values())
        nodes += [node for node in checkout.writing.values() if node.ino not in (hold_back or ())]
    files = [hashed for node in nodes if (hashed := _hash(checkout, node, add)) is not None]
    with checkout.lock:
        for file in files:
            _note_hash(checkout, file)
        snapshot = Snapshot(tree=EMPTY_TREE, number=number, files=files)
        tree, _ = _build(checkout, checkout.root, snapshot)
        snapshot.tree = tree or EMPTY_TREE
        snapshot.touched_conflicts = tuple(
            sorted(
                file.node.path()
                for file in files
                if file.node.conflicted and file.node.parent is not None
            )
        )
        base_trees = dict(checkout.base_trees)
    try:
        _hand_over(checkout, snapshot, base_trees, add)
    except BaseException:
        restore(checkout, snapshot)
        raise
    snapshot.sent = {file.oid for file in files} | {oid for oid, _ in snapshot.symlinks}
    return snapshot


def _hand_over(
    checkout: Checkout, snapshot: Snapshot, base_trees: dict[TreeId, bytes], add: AddObject
) -> None:
    for target_id, target in snapshot.symlinks:
        add(OBJECT_BLOB, target_id, target)
    for new, content in {**base_trees, **snapshot.contents}.items():
        add(OBJECT_TREE, new, content)
    for new, entries in snapshot.trees.items():
        checkout.cache.store_tree(new, entries)


def restore(checkout: Checkout, snapshot: Snapshot) -> None:
    """Say again that what went into a failed publish is unpublished."""
    with checkout.lock:
        for directory in snapshot.directories:
            if directory.parent is not None or directory is checkout.root:
                mark_edited(directory)


def _hash(checkout: Checkout, node: Node, add: AddObject) -> HashedFile | None:
    """Hash an overlay file and add its blob; None when its name, or its bytes, are gone meanwhile."""
    if node.published is not None and node.writers:
        try:
            if signature(checkout.overlay.path(node.ino)) == node.published:
                return None
        except FileNotFoundError:
            return None
    try:
        fd = checkout.overlay.open(node.ino, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        for attempt in range(_READ_TRIES):
            before = signature(fd)
            last = attempt == _READ_TRIES - 1
            oid, content = _read(fd, before[2])
            after = signature(fd)
            if (before == after or last) and after[2] == before[2]:
                break
        else:
            return None  # it keeps growing: the next snapshot has it
        if oid != node.oid or oid in checkout.unsent or not _is_known(node):
            add(OBJECT_BLOB, oid, content if content is not None else (fd, before[2]))
        racy = checkout.clock.now_ns() - max(before[:2]) < _RACY_NS or before != after
        return HashedFile(node, oid, before[2], before, racy)
    finally:
        os.close(fd)


def _is_known(node: Node) -> bool:
    """Whether the server has ``node.oid``: it came from there, or was acknowledged."""
    return node.oid is not None


def _read(fd: int, size: int) -> tuple[BlobId, bytes | None]:
    digest = sha1(b"blob %d\0" % size, usedforsecurity=False)
    if size <= _STREAM_ABOVE_BYTES:
        content = os.pread(fd, size, 0)
        digest.update(content)
        if len(content) == size:
            return BlobId(digest.digest()), content
        return BlobId(b""), b""
    offset = 0
    while offset < size and (chunk := os.pread(fd, min(1 << 20, size - offset), offset)):
        digest.update(chunk)
        offset += len(chunk)
    return BlobId(digest.digest()), None


def _note_hash(checkout: Checkout, file: HashedFile) -> None:
    node = file.node
    if node.parent is None:
        return
    if node.oid != file.oid:
        checkout.unsent.add(file.oid)
        node.oid = file.oid
        mark_edited(node.parent)
    node.size = file.size


def _build(checkout: Checkout, node: Node, snapshot: Snapshot) -> tuple[TreeId | None, bool]:
    """The tree of a directory (None: nothing in it that git can carry), and whether it is complete."""
    if not node.edited:
        return (TreeId(node.oid) if node.oid not in (None, EMPTY_TREE) else None), True
    assert node.children is not None, "an edited directory is loaded"
    listed: list[ListedEntry] = []
    complete = True
    for name, child in node.children.items():
        if child.local:
            continue
        if child.is_directory:
            tree, whole = _build(checkout, child, snapshot)
            complete = complete and whole
            if tree is None:
                checkout.unversioned[child.ino] = child
                continue
            checkout.unversioned.pop(child.ino, None)
            listed.append(ListedEntry(MODE_TREE, tree, 0, name))
        elif child.oid is None:
            complete = False
        else:
            if child.is_symlink and child.target is not None and child.oid in checkout.unsent:
                snapshot.symlinks.append((child.oid, child.target))
            listed.append(ListedEntry(child.git_mode, child.oid, child.size, name))
    listed += [ListedEntry(entry.mode, entry.id, 0, entry.name) for entry in node.hidden]
    made: TreeId | None = None
    if listed:
        content = serialise_tree([entry.entry() for entry in listed])
        made = tree_id(content)
        if made != node.oid:
            snapshot.trees[made] = listed
        snapshot.contents[made] = content
    if complete:
        node.edited = False
        node.oid = made
    snapshot.directories.append(node)
    return made, complete
