"""Opening a checkout: from its journal when there is one, else from what the server says.

Replay repeats the journal's records on the base tree through the same rules that made them. Trees it
needs may have to be fetched; then the replay starts over, as it keeps nothing until it is through.
Content of materialised files is hashed anew by the next snapshot, whatever the journal says of it.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
from dataclasses import dataclass

from mesafs.base.clock import Clock
from mesafs.base.errors import Corrupt
from mesafs.base.files import Files
from mesafs.checkout.attributes import Attributes
from mesafs.checkout.base import Base, PendingPublish
from mesafs.checkout.checkout import RENAME_EXCHANGE, Checkout
from mesafs.checkout.fetcher import Fetcher, Wanted
from mesafs.checkout.journal import Identity, Journal, Record, open_journal
from mesafs.checkout.nodes import S_IFDIR, S_IFLNK, Node, mark_edited
from mesafs.checkout.object_cache import ObjectCache
from mesafs.checkout.overlay import Overlay
from mesafs.checkout.ports import Invalidations, Objects
from mesafs.git.objects import blob_id
from mesafs.model.ids import TreeId
from mesafs.model.objects import MODE_TREE
from mesafs.wire.sync import ListedEntry, RepositoryState

log = logging.getLogger(__name__)

#: Kinds of records whose third field is the inode number that they give.
_NUMBERED = frozenset({b"c", b"F", b"M", b"k", b"D", b"G", b"f", b"s", b"L", b"l", b"n", b"N"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a checkout keeps things and how much of it."""

    folder: str
    cache_folder: str
    cache_limit_bytes: int = 10 << 30
    edits_limit_bytes: int = 10 << 30
    read_only: bool = False


class UnreplayableJournal(Corrupt):
    """The journal does not fit the tree that it says it was written on."""


def open_checkout(
    settings: Settings,
    identity: Identity,
    state: RepositoryState,
    objects: Objects,
    *,
    files: Files,
    clock: Clock,
    first_number: int,
    lock: threading.RLock,
    inodes: dict[int, Node],
    invalidations: Invalidations,
) -> Checkout:
    """Open or make the checkout in ``settings.folder``. Local edits of an earlier mount are there again.

    ``state`` is where the server's bookmark is now. A checkout with a journal keeps its own base,
    however old: the caller publishes or adopts from there.
    """
    os.makedirs(settings.folder, mode=0o700, exist_ok=True)
    cache = ObjectCache(settings.cache_folder, limit_bytes=settings.cache_limit_bytes, files=files)
    fetcher = Fetcher(objects, cache)
    overlay = Overlay(os.path.join(settings.folder, "overlay"), files=files)
    attributes = Attributes(os.path.join(settings.folder, "attributes"), files=files)
    found = open_journal(settings.folder, identity, files)
    records: list[Record] = []
    if found is None:
        base = Base.first(state)
        journal = Journal.begin(settings.folder, identity, iter([base.encode()]), 1, files)
        journal.settle()
    else:
        journal, records = found
        base = _last_base(records, journal.path)

    def build() -> Checkout:
        return Checkout(
            identity=identity,
            base=base,
            journal=journal,
            overlay=overlay,
            cache=cache,
            attributes=attributes,
            fetcher=fetcher,
            files=files,
            clock=clock,
            first_number=first_number,
            lock=lock,
            inodes=inodes,
            invalidations=invalidations,
            limit_bytes=settings.edits_limit_bytes,
            read_only=settings.read_only,
        )

    while True:
        known = set(inodes)
        checkout = build()
        try:
            load_conflict_texts(checkout, objects, base)
            _Replay(checkout).run(records)
        except Wanted as wanted:
            for ino in inodes.keys() - known:
                del inodes[ino]
            wanted.fetch()
            continue
        break
    _drop_orphans(checkout)
    return checkout


def _last_base(records: list[Record], path: str) -> Base:
    bases = [record for record in records if record[0] == b"B"]
    if not bases:
        raise UnreplayableJournal(f"{path} does not say what its edits rest on")
    return Base.decode(bases[-1])


def load_conflict_texts(checkout: Checkout, objects: Objects, base: Base) -> None:
    """Fetch the texts with markers of a base's conflicted paths into the cache."""
    if not base.conflicts:
        checkout.conflict_texts = {}
        return
    texts = {}
    for path, text in objects.conflict_texts(base.commit, sorted(base.conflicts)):
        oid = blob_id(text)
        checkout.cache.store_blob(oid, len(text), io.BytesIO(text))
        texts[path] = (oid, len(text))
    checkout.conflict_texts = texts


class _Replay:
    """Repeats records on a fresh checkout."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._ghosts: list[Node] = []
        #: Marked as edited, and nothing in the overlay: gone with a power cut, or unlinked later on.
        self._unmarked: list[Node] = []

    def run(self, records: list[Record]) -> None:
        self._checkout.claimed = {int(record[2]) for record in records if record[0] in _NUMBERED}
        for record in records:
            self._repeat(record)
        for node in self._unmarked:
            if node.parent is not None and not node.materialised:
                log.warning("%r is as it was before an edit that no disk has", node.path())
        for ghost in self._ghosts:
            if ghost.parent is not None:
                self._give_up(ghost.parent, ghost)
        self._checkout.claimed = set()

    def _give_up(self, parent: Node, ghost: Node) -> None:
        """Show what the base has in place of a file whose bytes a power cut took: never emptiness."""
        checkout = self._checkout
        path, name = ghost.path(), ghost.name
        log.warning("%r was not synced before the machine stopped; it is as last published", path)
        checkout.detach(parent, ghost)
        base = self._base_entry(path)
        if base is not None and base.mode != MODE_TREE:
            node = checkout.node_of_entry(parent, name, base.mode, base.id, base.size, path)
            checkout.children(parent)[name] = node

    def _base_entry(self, path: bytes) -> ListedEntry | None:
        checkout = self._checkout
        tree = checkout.base.tree
        *above, name = path.split(b"/")
        for component in (*above, name):
            entries = checkout.cache.tree(tree)
            if entries is None:
                raise Wanted(checkout.fetcher, trees=[tree])
            found = next((entry for entry in entries if entry.name == component), None)
            if found is None or component == name:
                return found
            tree = TreeId(found.id)
        return None

    def _repeat(self, record: Record) -> None:  # noqa: C901 - a table of kinds, not a decision
        checkout = self._checkout
        kind = record[0]
        match kind:
            case b"B" | b"E":
                return
            case b"p":
                checkout.pending = PendingPublish.decode(record)
            case b"q":
                checkout.pending = None
            case b"c":
                self._file(record[1], int(record[2]), stat.S_IFREG | int(record[3]), b"")
            case b"F":
                oid = bytes.fromhex(record[4].decode())
                if oid and not os.path.exists(checkout.overlay.path(int(record[2]))):
                    # Published since, and moved to the cache: an object like any other.
                    self._object(record)
                else:
                    self._file(record[1], int(record[2]), int(record[3]), oid)
            case b"M":
                self._mark(record[1], int(record[2]))
            case b"k" | b"D":
                node = self._attach(record[1], int(record[2]), S_IFDIR | int(record[3]) & 0o777)
                node.children = {}
                node.edited = True
            case b"G":
                node = self._attach(record[1], int(record[2]), int(record[3]))
                node.oid = bytes.fromhex(record[4].decode())
            case b"f":
                self._object(record)
            case b"s" | b"L":
                node = self._attach(record[1], int(record[2]), S_IFLNK | 0o777)
                checkout.set_target(node, record[3])
            case b"l":
                node = self._attach(record[1], int(record[2]), S_IFLNK | 0o777)
                node.size, node.oid = int(record[3]), bytes.fromhex(record[4].decode())
            case b"n" | b"N":
                self._attach(record[1], int(record[2]), int(record[3]))
            case b"u" | b"W":
                parent, name = self._parent(record[1])
                checkout.detach(parent, self._child(parent, name))
            case b"m":
                self._rename(record[1], record[2], int(record[3]))
            case b"a":
                self._attributes(record[1], int(record[2]), int(record[3]))
            case _:
                raise UnreplayableJournal(
                    f"{checkout.journal.path} has a record of unknown kind {kind!r}",
                    hint="it was written by a newer version; mount with that one",
                )

    def _file(self, path: bytes, ino: int, mode: int, oid: bytes) -> None:
        checkout = self._checkout
        if not os.path.exists(checkout.overlay.path(ino)):
            # Only a power cut does this: the content was never made durable.
            node = self._attach(path, ino, mode)
            self._ghosts.append(node)
            return
        node = self._attach(path, ino, mode)
        node.oid = oid or None
        self._in_overlay(node)

    def _object(self, record: Record) -> None:
        node = self._attach(record[1], int(record[2]), int(record[3]))
        node.oid, node.size = bytes.fromhex(record[4].decode()), int(record[5])
        node.mtime_ns = int(record[6])

    def _mark(self, path: bytes, ino: int) -> None:
        parent, name = self._parent(path)
        node = self._child(parent, name)
        if not os.path.exists(self._checkout.overlay.path(ino)):
            self._unmarked.append(node)
            return
        if node.ino != ino:
            self._checkout.inodes.pop(node.ino, None)
            node.ino = ino
            self._checkout.inodes[ino] = node
        self._in_overlay(node)

    def _in_overlay(self, node: Node) -> None:
        checkout = self._checkout
        node.materialised = True
        if node in self._ghosts:
            self._ghosts.remove(node)
        checkout.materialised[node.ino] = node
        if node.parent is not None and not node.local:
            mark_edited(node.parent)
            checkout.edited_files[node.ino] = node

    def _attach(self, path: bytes, ino: int, mode: int) -> Node:
        parent, name = self._parent(path)
        return self._checkout.attach(parent, name, ino, mode)

    def _rename(self, old: bytes, new: bytes, flags: int) -> None:
        parent, name = self._parent(old)
        target, new_name = self._parent(new)
        node = self._child(parent, name)
        victim = self._checkout.children(target).get(new_name)
        self._checkout.move(
            parent, node, target, new_name, victim, exchange=bool(flags & RENAME_EXCHANGE)
        )

    def _attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        node = self._checkout.root
        for name in path.split(b"/"):
            node = self._child(node, name)
        if node.git_mode != (0o100755 if mode & 0o100 else 0o100644) and node.is_file:
            assert node.parent is not None, "it was just found in one"
            node.mode = mode
            mark_edited(node.parent)
        node.mode = mode
        if mtime_ns >= 0:
            node.mtime_ns = mtime_ns

    def _parent(self, path: bytes) -> tuple[Node, bytes]:
        *above, name = path.split(b"/")
        node = self._checkout.root
        for component in above:
            node = self._child(node, component)
        self._checkout.children(node)
        return node, name

    def _child(self, parent: Node, name: bytes) -> Node:
        child = self._checkout.children(parent).get(name)
        if child is None:
            raise UnreplayableJournal(
                f"{self._checkout.journal.path} speaks of {name!r} in a directory that lacks it",
                hint="keep the state folder and report this; mount with another MESA_STATE_DIR",
            )
        return child


def _drop_orphans(checkout: Checkout) -> None:
    """Remove overlay files that no record names: their edit was never acknowledged."""
    for ino in list(checkout.overlay.inodes()):
        if ino not in checkout.materialised:
            checkout.overlay.remove(ino)
