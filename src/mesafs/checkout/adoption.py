"""Moving a checkout to what the server has now, under its own local edits.

The server's new tree is compared with the tree that this checkout last showed as published. A path
that nobody edited here takes the server's entry. A path that was edited keeps the edit, and its entry
of the *old* tree stays in the merge base, so that the server merges the edit instead of losing the
other side. The kernel is told exactly what changed.

Everything is read before anything changes: a missing tree raises :class:`Wanted` out of a checkout
that is as it was.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable

from mesafs.checkout.attributes import Remembered
from mesafs.checkout.base import Base
from mesafs.checkout.checkout import Checkout, signature
from mesafs.checkout.fetcher import Wanted
from mesafs.checkout.nodes import Node, mark_edited, mode_of_git
from mesafs.checkout.snapshot import Snapshot
from mesafs.checkout.state import MissingBaseTree, describe
from mesafs.git.objects import serialise_tree, tree_id
from mesafs.model.ids import EMPTY_TREE, TreeId
from mesafs.model.objects import MODE_GITLINK, MODE_TREE
from mesafs.wire.sync import ListedEntry, RepositoryState

log = logging.getLogger(__name__)

_KEEP_IN_OVERLAY_BYTES = 1 << 20
_DEMOTE_AT_ONCE = 64

Entries = dict[bytes, ListedEntry]


def adopt(checkout: Checkout, state: RepositoryState, snapshot: Snapshot | None) -> None:
    """Make ``state`` the base. ``snapshot`` is what was published to get there, if anything was.

    Called without the lock. Fetches what it needs; errors leave the checkout as it was, and the
    call can be repeated.
    """
    if snapshot is not None:
        old = snapshot.tree
    else:
        old = checkout.base.merge_base if checkout.pending is None else checkout.pending.tree
    while True:
        try:
            with checkout.lock:
                _Adoption(checkout, state, old).run(snapshot)
            break
        except Wanted as wanted:
            wanted.fetch()
    settle(checkout)
    if snapshot is not None and not checkout.unstated:
        demote(checkout, snapshot)


def settle(checkout: Checkout) -> None:
    """Make the journal's new generation durable and remove the old ones."""
    if checkout.unstated:
        restate(checkout)
    if not checkout.unstated:
        checkout.journal.settle()


def restate(checkout: Checkout) -> None:
    """Begin a new generation, fetching the trees that it takes. Called without the lock."""
    while True:
        try:
            with checkout.lock:
                begin_generation(checkout)
        except MissingBaseTree as missing:
            checkout.fetcher.trees([missing.tree])
            continue
        return


def begin_generation(checkout: Checkout) -> None:
    """Start a journal that states only what is still unpublished or local. Called with the lock held.

    Until it succeeds no further edit is taken: the old generation states another base, and an edit
    made since could not be replayed on it. What was acknowledged before is in the old one.
    """
    checkout.unstated = True
    records = list(describe(checkout))
    try:
        successor = checkout.journal.next_generation(checkout.identity, iter(records))
    except OSError as error:
        if error.errno != errno.ENOSPC or not checkout.journal.free_space():
            log.warning("no new journal could be begun: %s", error)
            return
        successor = checkout.journal.next_generation(checkout.identity, iter(records))
    successor.relieve = checkout.journal.relieve
    checkout.journal.close()
    checkout.journal = successor
    checkout.unstated = False


def demote(checkout: Checkout, snapshot: Snapshot) -> None:
    """Move published small files that nobody has open from the overlay to the cache.

    The journal on stable storage says already that they are published, so one that recovery misses
    in the overlay is an object like any other.
    """
    files = list(snapshot.files)
    while files:
        batch, files = files[:_DEMOTE_AT_ONCE], files[_DEMOTE_AT_ONCE:]
        remembered: dict[bytes, Remembered | None] = {}
        with checkout.lock:
            for file in batch:
                node = file.node
                if (
                    node.parent is None
                    or not node.materialised
                    or node.handles
                    or node.published != file.signature
                    or node.local
                    or file.size > _KEEP_IN_OVERLAY_BYTES
                    or signature(checkout.overlay.path(node.ino)) != file.signature
                ):
                    continue
                node.mtime_ns = file.signature[0]
                remembered[node.path()] = Remembered(node.ino, node.mode, node.mtime_ns, file.oid)
                checkout.cache.adopt_blob(file.oid, checkout.overlay.path(node.ino), file.size)
                node.materialised = False
                node.size, node.view = file.size, None
                checkout.materialised.pop(node.ino, None)
                checkout.unremembered.pop(node.ino, None)
            checkout.attributes.remember(remembered)


class _Adoption:
    """One adoption, with the lock held throughout."""

    def __init__(self, checkout: Checkout, state: RepositoryState, old: TreeId) -> None:
        self._checkout = checkout
        self._state = state
        self._old = old
        self._trees: dict[TreeId, Entries] = {}
        self._stale: dict[bytes, ListedEntry | None] = {}
        self._mtime_ns = state.committed_seconds * 1_000_000_000
        self._remember: dict[bytes, Remembered | None] = {}

    def run(self, snapshot: Snapshot | None) -> None:
        checkout = self._checkout
        # First pass: fetch what the second will read. It changes nothing.
        self._prepare(checkout.root, self._old, self._state.tree)
        for path in checkout.base.conflicts.union(self._state.conflicts):
            self._entry_at(path, self._state.tree)
            self._entry_at(path, self._old)
        base_trees: dict[TreeId, bytes] = {}
        if snapshot is not None:
            self._acknowledge(snapshot)
        conflict_base = Base.first(self._state)
        previous = checkout.base
        checkout.base = previous.advanced(self._state, merge_base=self._state.tree)
        self._apply(checkout.root, self._old, self._state.tree, b"")
        self._show_conflicts(previous, conflict_base)
        merge_base = self._state.tree
        if self._stale:
            merge_base = self._replaced(self._state.tree, self._stale, base_trees)
            mark_edited(checkout.root)
        checkout.base = previous.advanced(self._state, merge_base=merge_base)
        checkout.base_trees = base_trees
        checkout.pending = None
        checkout.left.append(previous.commit)
        checkout.attributes.remember(self._remember)
        self._remember_new()
        with contextlib.suppress(MissingBaseTree):  # fetched by ``settle``, outside the lock
            begin_generation(checkout)

    # -- reading --------------------------------------------------------------------------------

    def _entries(self, tree: TreeId | None) -> Entries:
        if tree is None or tree == EMPTY_TREE:
            return {}
        found = self._trees.get(tree)
        if found is None:
            listed = self._checkout.cache.tree(tree)
            if listed is None:
                raise Wanted(self._checkout.fetcher, trees=[tree])
            found = self._trees[tree] = {entry.name: entry for entry in listed}
        return found

    def _prepare(self, node: Node, old: TreeId | None, new: TreeId | None) -> None:
        if old == new or node.children is None:
            return
        before, after = self._entries(old), self._entries(new)
        for name in before.keys() | after.keys():
            was, now = before.get(name), after.get(name)
            if _same(was, now):
                continue
            child = node.children.get(name)
            if child is not None and child.is_directory and _is_tree(was):
                self._prepare(child, _tree_of(was), _tree_of(now))

    # -- applying -------------------------------------------------------------------------------

    def _apply(self, node: Node, old: TreeId | None, new: TreeId | None, prefix: bytes) -> None:
        checkout = self._checkout
        if old == new:
            return
        if node.children is None:
            node.oid = new
            if node.lookups:
                checkout.invalidations.content(node.ino)
            return
        before, after = self._entries(old), self._entries(new)
        changed = False
        for name in before.keys() | after.keys():
            was, now = before.get(name), after.get(name)
            if _same(was, now):
                continue
            changed = True
            self._path(node, name, was, now, prefix + name)
        node.hidden = tuple(e.entry() for e in after.values() if e.mode == MODE_GITLINK)
        if old != new:
            if not node.edited or node.oid == old:
                node.oid = new
            if changed:
                node.mtime_ns = max(node.mtime_ns, self._mtime_ns)
                checkout.invalidations.content(node.ino)

    def _path(
        self, node: Node, name: bytes, was: ListedEntry | None, now: ListedEntry | None, path: bytes
    ) -> None:
        assert node.children is not None, "checked by the caller"
        child = node.children.get(name)
        if child is not None and child.is_directory and _is_tree(was):
            if _is_tree(now):
                self._apply(child, _tree_of(was), _tree_of(now), path + b"/")
                return
            if (
                child.edited
                or child.oid != _tree_of(was)
                or child.ino in self._checkout.unversioned
            ):
                self._apply(child, _tree_of(was), None, path + b"/")
                if child.children:
                    if now is not None:
                        self._keep(node, path, was)
                    else:
                        mark_edited(child)
                    return
        if not self._is_clean(child, was):
            self._keep(node, path, was)
            return
        self._replace(node, name, child, now, path)

    def _keep(self, parent: Node, path: bytes, was: ListedEntry | None) -> None:
        """Let a local edit stand, and remember what it was made from."""
        self._stale[path] = was
        mark_edited(parent)

    def _is_clean(self, child: Node | None, was: ListedEntry | None) -> bool:
        """Whether a name here is just what the old tree says."""
        if child is None or was is None:
            return child is None and was is None
        if child.local or child.oid != was.id or child.git_mode != was.mode:
            return False
        if child.is_directory:
            return not child.edited
        if child.ino in self._checkout.edited_files or child.writers:
            return False  # an open writer may write at any moment, and means this content
        if child.materialised:
            try:
                return signature(self._checkout.overlay.path(child.ino)) == child.published
            except FileNotFoundError:
                return False
        return True

    def _replace(
        self, parent: Node, name: bytes, child: Node | None, now: ListedEntry | None, path: bytes
    ) -> None:
        checkout = self._checkout
        assert parent.children is not None, "checked by the caller"
        both_files = child is not None and child.is_file and now is not None and _is_file(now)
        if both_files and child is not None and now is not None and child.handles == 0:
            self._new_content(child, now, path)
            return
        if child is not None:
            # Whoever has it open keeps its bytes; the name means something else from now on.
            del parent.children[name]
            self._forget(child)
            checkout.invalidations.removed(parent.ino, child.ino, name)
            if checkout.attributes.get(path) is not None:
                self._remember[path] = None
        if now is not None and now.mode != MODE_GITLINK:
            node = checkout.node_of_entry(parent, name, now.mode, now.id, now.size, path)
            node.mtime_ns = self._mtime_ns
            parent.children[name] = node
            self._remember[path] = Remembered(
                node.ino, node.mode, node.mtime_ns, b"" if node.is_directory else now.id
            )
            checkout.invalidations.entry(parent.ino, name)

    def _new_content(self, child: Node, now: ListedEntry, path: bytes) -> None:
        checkout = self._checkout
        if child.materialised:
            child.materialised = False
            checkout.materialised.pop(child.ino, None)
            checkout.overlay.remove(child.ino)
        child.oid, child.size, child.view, child.conflicted = now.id, now.size, None, False
        child.mode = mode_of_git(now.mode)
        child.mtime_ns = self._mtime_ns
        child.stale = True
        self._remember[path] = Remembered(child.ino, child.mode, child.mtime_ns, now.id)
        checkout.invalidations.content(child.ino)

    def _forget(self, node: Node) -> None:
        checkout = self._checkout
        for child in (node.children or {}).values():
            self._forget(child)
        node.parent = None
        for table in (
            checkout.materialised,
            checkout.writing,
            checkout.edited_files,
            checkout.unversioned,
            checkout.unremembered,
        ):
            table.pop(node.ino, None)
        if node.handles == 0:
            checkout.discard(node)

    # -- what was published ---------------------------------------------------------------------

    def _acknowledge(self, snapshot: Snapshot) -> None:
        """Count files as published whose content is still what went into the snapshot."""
        checkout = self._checkout
        for file in snapshot.files:
            node = file.node
            if node.parent is None or not node.materialised or node.oid != file.oid:
                continue
            try:
                same = signature(checkout.overlay.path(node.ino)) == file.signature
            except FileNotFoundError:
                continue
            if same and not file.racy:
                node.published = file.signature
                if node.writers == 0:
                    checkout.edited_files.pop(node.ino, None)
        checkout.unsent -= snapshot.sent

    def _show_conflicts(self, previous: Base, state: Base) -> None:
        """Give conflicted paths their text with markers, and take it from those that no longer are."""
        checkout = self._checkout
        for path in previous.conflicts | state.conflicts:
            node = self._find(path)
            if node is not None and path in state.conflicts and node.materialised:
                # What was sent is one side of it now: it gives way to the text with both.
                entry = self._entry_at(path, self._state.tree)
                if node.parent is not None and self._is_clean(node, entry):
                    self._replace(node.parent, node.name, node, entry, path)
                    node = self._find(path)
                elif node.parent is not None and path not in previous.conflicts:
                    # It was edited again meanwhile, without a sight of the other side: no resolution.
                    self._keep(node.parent, path, self._entry_at(path, self._old))
            if node is None or not node.is_file:
                continue
            if node.materialised:
                if path not in state.conflicts:  # what is in the overlay resolved it
                    node.conflicted, node.view = False, None
                continue
            text = checkout.conflict_texts.get(path) if path in state.conflicts else None
            if text is None:
                if node.conflicted:
                    entry = self._entry_at(path, self._state.tree)
                    node.conflicted, node.view = False, None
                    node.size = entry.size if entry is not None else node.size
                    checkout.invalidations.content(node.ino)
                continue
            node.conflicted = True
            if node.view != text[0]:
                node.view, node.size = text
                node.mtime_ns = self._mtime_ns
                node.stale = True
                checkout.invalidations.content(node.ino)

    def _find(self, path: bytes) -> Node | None:
        node: Node | None = self._checkout.root
        for name in path.split(b"/"):
            if node is None or not node.is_directory or node.children is None:
                return None
            node = node.children.get(name)
        return node

    def _entry_at(self, path: bytes, root: TreeId) -> ListedEntry | None:
        tree: TreeId | None = root
        entry = None
        for name in path.split(b"/"):
            entry = self._entries(tree).get(name)
            if entry is None:
                return None
            tree = _tree_of(entry)
        return entry

    def _remember_new(self) -> None:
        """Keep numbers and times of published nodes that have their own."""
        checkout = self._checkout
        entries: dict[bytes, Remembered | None] = {}
        for ino, node in list(checkout.unremembered.items()):
            if node.parent is None or node.local:
                del checkout.unremembered[ino]
            elif not node.materialised and not node.edited:
                oid = b"" if node.is_directory else node.oid or b""
                entries[node.path()] = Remembered(node.ino, node.mode, node.mtime_ns, oid)
                del checkout.unremembered[ino]
        checkout.attributes.remember(entries)

    # -- the merge base -------------------------------------------------------------------------

    def _replaced(
        self, tree: TreeId, paths: dict[bytes, ListedEntry | None], made: dict[TreeId, bytes]
    ) -> TreeId:
        """``tree`` with some paths as they were; new trees go to ``made`` and the cache."""
        here: Entries = dict(self._entries(tree))
        below: dict[bytes, dict[bytes, ListedEntry | None]] = {}
        for path, entry in paths.items():
            name, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(name, {})[rest] = entry
            elif entry is None:
                here.pop(name, None)
            else:
                here[name] = entry
        for name, inner in below.items():
            entry = here.get(name)
            start = (
                TreeId(entry.id) if entry is not None and entry.mode == MODE_TREE else EMPTY_TREE
            )
            replaced = self._replaced(start, inner, made)
            if replaced == EMPTY_TREE:
                here.pop(name, None)
            else:
                here[name] = ListedEntry(MODE_TREE, replaced, 0, name)
        return self._made(here.values(), made)

    def _made(self, entries: Iterable[ListedEntry], made: dict[TreeId, bytes]) -> TreeId:
        listed = list(entries)
        content = serialise_tree([entry.entry() for entry in listed])
        new = tree_id(content)
        if new != EMPTY_TREE:
            made[new] = content
            self._checkout.cache.store_tree(new, listed)
        return new


def _same(was: ListedEntry | None, now: ListedEntry | None) -> bool:
    if was is None or now is None:
        return was is now
    return was.id == now.id and was.mode == now.mode


def _is_tree(entry: ListedEntry | None) -> bool:
    return entry is not None and entry.mode == MODE_TREE


def _is_file(entry: ListedEntry) -> bool:
    return entry.mode & 0o170000 == 0o100000


def _tree_of(entry: ListedEntry | None) -> TreeId | None:
    return TreeId(entry.id) if entry is not None and entry.mode == MODE_TREE else None
