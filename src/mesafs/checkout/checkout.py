"""One repository as it is seen and edited here.

Every method that looks or edits is called with ``lock`` held, takes microseconds, and either does
what it says or raises before anything changed: OSError with the errno a program must see, or
:class:`Wanted` when objects have to be fetched first. An edit is in the journal before the method
returns; content is in the overlay, marked in the journal before its first byte can differ.

Lock order: ``lock`` is the only lock held while calling out, and what is called (journal, overlay,
cache, invalidations) never takes it. Nothing here waits for the network.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
from collections import deque
from collections.abc import Callable

from mesafs.base.clock import Clock
from mesafs.base.files import Files
from mesafs.checkout.attributes import Attributes, Remembered
from mesafs.checkout.base import Base, PendingPublish
from mesafs.checkout.fetcher import Fetcher, Wanted
from mesafs.checkout.journal import Identity, Journal
from mesafs.checkout.nodes import (
    S_IFDIR,
    S_IFLNK,
    S_IFREG,
    ContentSignature,
    Node,
    mark_edited,
    mode_of_git,
    placed_ino,
)
from mesafs.checkout.object_cache import ObjectCache
from mesafs.checkout.overlay import Overlay
from mesafs.checkout.ports import Invalidations
from mesafs.checkout.prefetch import Prefetch
from mesafs.git.objects import blob_id
from mesafs.model.ids import BlobId, CommitId, TreeId
from mesafs.model.objects import MODE_GITLINK, MODE_TREE, TreeEntry
from mesafs.model.paths import MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, objection

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_ACCESS_BITS = 0o777
_VERSIONED_KINDS = {S_IFDIR, S_IFREG, S_IFLNK}


def refused(code: int) -> OSError:
    """The error a program sees."""
    return OSError(code, os.strerror(code))


class Checkout:
    """See the module. Built by :func:`mesafs.checkout.recovery.open_checkout`."""

    def __init__(
        self,
        *,
        identity: Identity,
        base: Base,
        journal: Journal,
        overlay: Overlay,
        cache: ObjectCache,
        attributes: Attributes,
        fetcher: Fetcher,
        files: Files,
        clock: Clock,
        first_number: int,
        lock: threading.RLock,
        inodes: dict[int, Node],
        invalidations: Invalidations,
        limit_bytes: int,
        read_only: bool = False,
    ) -> None:
        self.identity = identity
        self.base = base
        self.journal = journal
        self.overlay = overlay
        self.cache = cache
        self.attributes = attributes
        self.fetcher = fetcher
        self.files = files
        self.clock = clock
        self.lock = lock
        self.inodes = inodes
        self.invalidations = invalidations
        self.read_only = read_only
        self.limit_bytes = limit_bytes
        self.used_bytes = 0  # of the overlay, as the publisher last counted it
        #: errno that every look, or every edit, is answered with; 0 while the credential is good.
        self.refuse_reads = 0
        self.refuse_writes = 0
        #: No journal states the present base yet: see ``adoption.begin_generation``.
        self.unstated = False
        #: Files whose content the server may not have: nobody writes them, or somebody has them open.
        self.edited_files: dict[int, Node] = {}
        self.writing: dict[int, Node] = {}
        #: All named files whose bytes are in the overlay.
        self.materialised: dict[int, Node] = {}
        #: Topmost nodes that no tree holds: names git cannot carry, special files, empty directories.
        self.unversioned: dict[int, Node] = {}
        #: Nodes with a number or place of their own that ``attributes`` does not know yet.
        self.unremembered: dict[int, Node] = {}
        #: Blobs hashed here, and trees made for a merge base, that the server may not have.
        self.unsent: set[bytes] = set()
        self.base_trees: dict[TreeId, bytes] = {}
        #: Blob id and size of the text with markers of each conflicted path of ``base``.
        self.conflict_texts: dict[bytes, tuple[BlobId, int]] = {}
        self.pending: PendingPublish | None = None
        #: Commits that were the base here before: a state of one that arrives late is no news.
        self.left: deque[CommitId] = deque(maxlen=1024)
        #: Inode numbers that the records of a replay under way will give: nothing loaded takes them.
        self.claimed: set[int] = set()
        #: Called, with the lock held, when there is something to publish that was not there before.
        self.on_edit: Callable[[], None] = lambda: None
        self._numbers = itertools.count(first_number & (1 << 61) - 1 | 1 << 62)
        self._cookies = itertools.count(1)
        self._prefetch = Prefetch(cache, clock)
        #: Called for each open handle of a file whose bytes moved to the overlay.
        self.on_materialised: Callable[[Node], None] = lambda node: None
        self.root = self._make_root()
        journal.relieve = cache.give_up

    # -- looking --------------------------------------------------------------------------------

    def children(self, node: Node) -> dict[bytes, Node]:
        """Names of a directory; loaded from its tree the first time."""
        found = node.children
        return self._load(node) if found is None else found

    def lookup(self, parent: Node, name: bytes) -> Node | None:
        """What a name means, or None."""
        if self.refuse_reads:
            raise refused(self.refuse_reads)
        found = parent.children
        if found is None:
            found = self._load(parent)
        return found.get(name)

    def measure(self, node: Node) -> tuple[int, int]:
        """Size in bytes and modification time in nanoseconds, as they are now."""
        if node.materialised:
            st = os.stat(self.overlay.path(node.ino))
            return st.st_size, st.st_mtime_ns
        return node.size, node.mtime_ns

    def readlink(self, node: Node) -> bytes:
        """The target of a symlink."""
        if self.refuse_reads:
            raise refused(self.refuse_reads)
        if node.target is None:
            assert node.oid is not None, "a symlink made here has its target"
            fd = self._open_blob(node, BlobId(node.oid))
            try:
                node.target = os.pread(fd, node.size, 0)
            finally:
                os.close(fd)
        return node.target

    def is_dirty(self) -> bool:
        """Whether anything here is not known to be on the server, unchanged open files aside."""
        return self.root.edited or bool(self.edited_files)

    # -- content --------------------------------------------------------------------------------

    def open(self, node: Node, *, writing: bool, truncate: bool = False) -> int:
        """A descriptor on a file's bytes; when ``writing``, they are in the overlay, and marked.

        Each call with ``writing`` must be matched by :meth:`written` when the program closes it.
        """
        if self.refuse_reads:
            raise refused(self.refuse_reads)
        if not writing:
            if node.materialised:
                return self.overlay.open(node.ino, os.O_RDONLY)
            view = node.view or node.oid
            assert view is not None, "a file is materialised or has an object"
            return self._open_blob(node, BlobId(view))
        self.check_writable()
        self.materialise(node, truncate=truncate)
        fd = self.overlay.open(node.ino, os.O_RDWR | (os.O_TRUNC if truncate else 0))
        self._begin_writing(node)
        return fd

    def _begin_writing(self, node: Node) -> None:
        node.writers += 1
        if not node.local:
            self.edited_files.pop(node.ino, None)
            self.writing[node.ino] = node
            self.on_edit()

    def written(self, node: Node) -> None:
        """A program closed a file it had open for writing."""
        node.writers -= 1
        node.published = None  # a mapping may have stored since the last hash without a new time
        if node.writers == 0 and self.writing.pop(node.ino, None) is not None and node.parent:
            self.edited_files[node.ino] = node
            self.on_edit()

    def touched(self, node: Node) -> None:
        """Content that we wrote ourselves (no passthrough) changed."""
        if not node.local:
            self.on_edit()

    def materialise(self, node: Node, *, truncate: bool = False) -> None:
        """Bring a file's bytes into the overlay and mark it in the journal."""
        if node.materialised:
            return
        if truncate:
            os.close(self.overlay.create(node.ino))
        else:
            self._fill_overlay(node)
        try:
            if node.parent is not None:
                self.journal.append(
                    b"M\0%s\0%d\0%d\0%s"
                    % (node.path(), node.ino, node.mode, (node.oid or b"").hex().encode())
                )
        except BaseException:
            self.overlay.remove(node.ino)
            raise
        node.materialised = True
        node.published = None
        if node.parent is not None:
            self.materialised[node.ino] = node
        if node.handles:
            self.on_materialised(node)
        self._changed_file(node)

    def _fill_overlay(self, node: Node) -> None:
        view = node.view or node.oid
        assert view is not None, "a file is materialised or has an object"
        source = self._open_blob(node, BlobId(view))
        try:
            self.overlay.fill(node.ino, source, node.size, node.mtime_ns)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self.cache.give_up():
                raise
            self.overlay.fill(node.ino, source, node.size, node.mtime_ns)
        finally:
            os.close(source)

    def truncate(self, node: Node, size: int) -> None:
        """Set a file's length."""
        self.check_allowed()
        self.materialise(node, truncate=size == 0)
        os.truncate(self.overlay.path(node.ino), size)
        self._changed_file(node)

    def _changed_file(self, node: Node) -> None:
        if node.parent is None:
            return
        if not node.local:
            if node.writers == 0:
                self.edited_files[node.ino] = node
            mark_edited(node.parent)
            self.on_edit()

    def _open_blob(self, node: Node, blob: BlobId) -> int:
        fd = self.cache.open_blob(blob)
        if fd is None:
            raise Wanted(self.fetcher, blobs=self._prefetch.files(node, blob))
        return fd

    # -- names ----------------------------------------------------------------------------------

    def create(self, parent: Node, name: bytes, mode: int) -> tuple[Node, int]:
        """A new file, open for writing (see ``open``)."""
        self._check_new(parent, name)
        path = _below(parent, name)
        ino = self._fresh_ino()
        fd = self.overlay.create(ino)
        try:
            self.journal.append(b"c\0%s\0%d\0%d" % (path, ino, mode))
        except BaseException:
            os.close(fd)
            self.overlay.remove(ino)
            raise
        node = self.attach(parent, name, ino, S_IFREG | mode & 0o777)
        node.materialised = True
        self.materialised[ino] = node
        self._begin_writing(node)
        return node, fd

    def mkdir(self, parent: Node, name: bytes, mode: int) -> Node:
        self._check_new(parent, name)
        ino = self._fresh_ino()
        self.journal.append(b"k\0%s\0%d\0%d" % (_below(parent, name), ino, mode))
        node = self.attach(parent, name, ino, S_IFDIR | mode & 0o777)
        node.children = {}
        node.edited = True
        return node

    def symlink(self, parent: Node, name: bytes, target: bytes) -> Node:
        self._check_new(parent, name)
        if not target or len(target) > MAX_PATH_BYTES:
            raise refused(errno.ENAMETOOLONG if target else errno.ENOENT)
        ino = self._fresh_ino()
        self.journal.append(b"s\0%s\0%d\0%s" % (_below(parent, name), ino, target))
        node = self.attach(parent, name, ino, S_IFLNK | 0o777)
        self.set_target(node, target)
        return node

    def set_target(self, node: Node, target: bytes) -> None:
        node.target = target
        node.size = len(target)
        node.oid = blob_id(target)
        self.unsent.add(node.oid)

    def mknod(self, parent: Node, name: bytes, mode: int, rdev: int) -> Node:
        """A fifo or socket: local to this mount. Devices are refused, the mount is ``nodev`` anyway."""
        if stat.S_IFMT(mode) not in {stat.S_IFIFO, stat.S_IFSOCK}:
            raise refused(errno.EPERM)
        self._check_new(parent, name)
        ino = self._fresh_ino()
        self.journal.append(b"n\0%s\0%d\0%d" % (_below(parent, name), ino, mode))
        return self.attach(parent, name, ino, mode)

    def unlink(self, parent: Node, name: bytes) -> Node:
        """Remove a name of something that is not a directory."""
        self.check_allowed()
        node = self.children(parent).get(name)
        if node is None:
            raise refused(errno.ENOENT)
        if node.is_directory:
            raise refused(errno.EISDIR)
        self.journal.append(b"u\0%s" % _below(parent, name))
        self.detach(parent, node)
        return node

    def rmdir(self, parent: Node, name: bytes) -> Node:
        self.check_allowed()
        node = self.children(parent).get(name)
        if node is None:
            raise refused(errno.ENOENT)
        if not node.is_directory:
            raise refused(errno.ENOTDIR)
        if self.children(node) or node.hidden:
            raise refused(errno.ENOTEMPTY)
        self.journal.append(b"u\0%s" % _below(parent, name))
        self.detach(parent, node)
        return node

    def rename(self, parent: Node, name: bytes, target: Node, new: bytes, flags: int = 0) -> None:
        """Move a name as the kernel does; ``flags`` may be RENAME_NOREPLACE or RENAME_EXCHANGE."""
        self.check_allowed()
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE):
            raise refused(errno.EINVAL)
        node = self.children(parent).get(name)
        if node is None:
            raise refused(errno.ENOENT)
        if len(new) > MAX_NAME_BYTES:
            raise refused(errno.ENAMETOOLONG)
        victim = self.children(target).get(new)
        if flags & RENAME_EXCHANGE:
            if victim is None:
                raise refused(errno.ENOENT)
        elif victim is not None:
            if flags & RENAME_NOREPLACE:
                raise refused(errno.EEXIST)
            if victim is node:
                return
            self._check_replaceable(node, victim)
        self.journal.append(b"m\0%s\0%s\0%d" % (_below(parent, name), _below(target, new), flags))
        self.move(parent, node, target, new, victim, exchange=bool(flags & RENAME_EXCHANGE))

    def set_mode(self, node: Node, mode: int) -> None:
        """Permission bits; git keeps the owner's executable bit of a file. Set-id bits never stay."""
        self.check_allowed()
        mode = node.mode & ~0o7777 | mode & 0o777
        if mode == node.mode or node.parent is None:
            node.mode = mode
            return
        self.journal.append(b"a\0%s\0%d\0-1" % (node.path(), mode))
        before = node.git_mode
        node.mode = mode
        if node.git_mode != before and not node.local:
            mark_edited(node.parent)
            self.on_edit()
        self.remember(node)

    def set_mtime(self, node: Node, mtime_ns: int) -> None:
        self.check_allowed()
        if node.materialised:
            os.utime(self.overlay.path(node.ino), ns=(mtime_ns, mtime_ns))
            return
        if node.parent is None:
            node.mtime_ns = mtime_ns
            return
        self.journal.append(b"a\0%s\0%d\0%d" % (node.path(), node.mode, mtime_ns))
        node.mtime_ns = mtime_ns
        self.remember(node)

    def remember(self, node: Node) -> None:
        """Keep what git does not of a node that is otherwise as published."""
        if node.parent is not None and not node.materialised:
            entry = Remembered(node.ino, node.mode, node.mtime_ns, node.oid or b"")
            self.attributes.remember({node.path(): entry})

    # -- the rules below are shared with replay ---------------------------------------------------

    def attach(self, parent: Node, name: bytes, ino: int, mode: int) -> Node:
        """Give a new node its name."""
        node = Node(self, ino, parent, name, mode)
        node.mtime_ns = self.clock.now_ns()
        special = mode & 0o170000 not in _VERSIONED_KINDS
        node.local = parent.local or special or self._is_unpublishable(parent, name)
        if node.local and not parent.local:
            self.unversioned[ino] = node
        children = parent.children
        assert children is not None, "loaded by the check before"
        children[name] = node
        node.cookie = next(self._cookies)
        self.inodes[ino] = node
        self.unremembered[ino] = node
        self._changed_directory(parent, local=node.local)
        return node

    def detach(self, parent: Node, node: Node) -> None:
        """Take a node's name away; its bytes go when nobody has it open."""
        assert parent.children is not None, "loaded by the check before"
        if self.attributes:
            path = node.path()
            if self.attributes.get(path) is not None:
                self.attributes.remember({path: None})
        del parent.children[node.name]
        node.parent = None
        for table in (self.edited_files, self.writing, self.materialised, self.unversioned):
            table.pop(node.ino, None)
        self.unremembered.pop(node.ino, None)
        if node.handles == 0:
            self.discard(node)
        self._changed_directory(parent, local=node.local)

    def discard(self, node: Node) -> None:
        """Forget a node without a name that nobody has open."""
        if node.materialised:
            node.materialised = False
            node.size = 0
            self.overlay.remove(node.ino)
        if node.lookups <= 0 and self.inodes.get(node.ino) is node:
            del self.inodes[node.ino]

    def move(
        self,
        parent: Node,
        node: Node,
        target: Node,
        new: bytes,
        victim: Node | None,
        *,
        exchange: bool,
    ) -> None:
        """Carry out a rename that was checked."""
        assert parent.children is not None, "loaded by the check before"
        assert target.children is not None, "loaded by the check before"
        old = node.name
        old_path = node.path() if self.attributes else b""
        if victim is not None and not exchange:
            self.detach(target, victim)
        del parent.children[old]
        if exchange and victim is not None:
            del target.children[new]
            victim.parent, victim.name = parent, old
            victim.cookie = next(self._cookies)
            parent.children[old] = victim
            self._placed_anew(victim)
        node.parent, node.name = target, new
        node.cookie = next(self._cookies)
        target.children[new] = node
        self._placed_anew(node)
        if self.attributes:
            self.attributes.move(old_path, node.path(), directory=node.is_directory)
        self._changed_directory(parent, local=False)
        self._changed_directory(target, local=False)

    def _placed_anew(self, node: Node) -> None:
        """A node has a new place: whether git can carry it may have changed, for all below too."""
        assert node.parent is not None, "it was just given one"
        self.unremembered[node.ino] = node
        local = (
            node.parent.local
            or self._is_unpublishable(node.parent, node.name)
            or not (node.is_directory or node.is_file or node.is_symlink)
        )
        if local != node.local:
            self._set_local(node, local=local)

    def _set_local(self, node: Node, *, local: bool) -> None:
        special = not (node.is_directory or node.is_file or node.is_symlink)
        node.local = local or special or self._is_unpublishable(node.parent, node.name)
        self.unversioned.pop(node.ino, None)
        if node.local and node.parent is not None and not node.parent.local:
            self.unversioned[node.ino] = node
        if node.is_file:
            self.edited_files.pop(node.ino, None)
            self.writing.pop(node.ino, None)
            if not node.local and node.materialised:
                (self.writing if node.writers else self.edited_files)[node.ino] = node
        if node.is_directory:
            node.edited = True
            for child in (node.children or {}).values():
                self._set_local(child, local=node.local)

    def _changed_directory(self, directory: Node, *, local: bool) -> None:
        directory.mtime_ns = self.clock.now_ns()
        if not local and not directory.local:
            mark_edited(directory)
            self.on_edit()

    # -- checks ---------------------------------------------------------------------------------

    def check_allowed(self) -> None:
        """Whether edits are taken at all; what frees space is taken even when the limit is reached."""
        if self.refuse_writes:
            raise refused(self.refuse_writes)
        if self.read_only:
            raise refused(errno.EROFS)
        if self.unstated:
            raise refused(errno.ENOSPC)

    def check_writable(self) -> None:
        self.check_allowed()
        if self.used_bytes + self.journal.size_bytes > self.limit_bytes:
            raise refused(errno.ENOSPC)

    def _check_new(self, parent: Node, name: bytes) -> None:
        self.check_writable()
        if parent.parent is None and parent is not self.root:
            raise refused(errno.ENOENT)
        if len(name) > MAX_NAME_BYTES:
            raise refused(errno.ENAMETOOLONG)
        if name in self.children(parent):
            raise refused(errno.EEXIST)

    def _check_replaceable(self, node: Node, victim: Node) -> None:
        if victim.is_directory:
            if not node.is_directory:
                raise refused(errno.EISDIR)
            if self.children(victim) or victim.hidden:
                raise refused(errno.ENOTEMPTY)
        elif node.is_directory:
            raise refused(errno.ENOTDIR)

    def _is_unpublishable(self, parent: Node | None, name: bytes) -> bool:
        if objection(name) is not None:
            return True
        depth, length = 1, len(name)
        while parent is not None and parent.parent is not None:
            depth += 1
            length += len(parent.name) + 1
            parent = parent.parent
        return depth > MAX_DEPTH or length > MAX_PATH_BYTES

    def _fresh_ino(self) -> int:
        ino = next(self._numbers)
        while ino in self.inodes:
            ino = next(self._numbers)
        return ino

    # -- loading --------------------------------------------------------------------------------

    def _make_root(self) -> Node:
        ino = placed_ino(1, self.identity.repository)
        root = Node(self, ino, None, b"", S_IFDIR | 0o755)
        root.oid = self.base.tree
        root.mtime_ns = self.base.first_seen_seconds * 1_000_000_000
        root.lookups = 1
        self.inodes[ino] = root
        return root

    def _load(self, node: Node) -> dict[bytes, Node]:
        if self.refuse_reads:
            raise refused(self.refuse_reads)
        assert node.oid is not None, "a directory without a tree has its children"
        entries = self.cache.tree(TreeId(node.oid))
        if entries is None:
            raise Wanted(self.fetcher, trees=self._prefetch.trees(node, TreeId(node.oid)))
        prefix = node.path()
        prefix = prefix + b"/" if prefix else b""
        children: dict[bytes, Node] = {}
        hidden: list[TreeEntry] = []
        for entry in entries:
            if entry.mode == MODE_GITLINK:
                hidden.append(entry.entry())
                continue
            children[entry.name] = self.node_of_entry(
                node, entry.name, entry.mode, entry.id, entry.size, prefix + entry.name
            )
        node.hidden = tuple(hidden)
        node.children = children
        return children

    def node_of_entry(
        self, parent: Node, name: bytes, mode: int, oid: bytes, size: int, path: bytes
    ) -> Node:
        """A node for an entry of a tree, with what is remembered of its path."""
        remembered = self.attributes.get(path) if self.attributes else None
        ino = remembered.ino if remembered is not None else placed_ino(parent.ino, name)
        while ino in self.inodes or ino in self.claimed:
            ino = placed_ino(ino, name)
        node = Node(self, ino, parent, name, mode_of_git(mode))
        node.cookie = next(self._cookies)
        node.oid = oid
        node.size = size
        node.local = parent.local
        if remembered is not None and (mode == MODE_TREE or remembered.oid == oid):
            node.mtime_ns = remembered.mtime_ns
            if remembered.mode & 0o100 == node.mode & 0o100:
                node.mode = node.mode & ~_ACCESS_BITS | remembered.mode & _ACCESS_BITS
        else:
            node.mtime_ns = self.base.first_seen_seconds * 1_000_000_000
        if path in self.base.conflicts and path in self.conflict_texts:
            node.conflicted = True
            node.view, node.size = self.conflict_texts[path]
        self.inodes[ino] = node
        return node


def _below(parent: Node, name: bytes) -> bytes:
    path = parent.path()
    return path + b"/" + name if path else name


def signature(fd_or_path: int | str) -> ContentSignature:
    """What tells one content of an overlay file from another without reading it."""
    st = os.stat(fd_or_path)
    return st.st_mtime_ns, st.st_ctime_ns, st.st_size
