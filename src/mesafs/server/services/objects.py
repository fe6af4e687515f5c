"""Objects for mounts: trees with sizes, blobs, conflict texts, and packs that come in.

An object is answered only if the repository named in the request has it. Frames of trees never
change, so they are kept for a while, by repository.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.dialects.sqlite import insert

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.base.errors import Exhausted, Invalid, NotFound
from mesafs.git.objects import blob_id
from mesafs.git.raw_copies import LARGE_BYTES, raw_copy
from mesafs.git.receiving import ReceivedPack, receive
from mesafs.git.repository import NoSuchObject, ObjectStore
from mesafs.model.ids import BlobId, CheckoutId, CommitId, RepositoryId, TreeId
from mesafs.model.objects import MODE_GITLINK, TreeEntry
from mesafs.server.backing import Backing
from mesafs.server.services.repositories import find, find_by_id
from mesafs.server.services.states import state_of
from mesafs.store import changes, conflicts, organisations, repositories, schema
from mesafs.vcs.conflicts import render
from mesafs.wire.resolve import Resolved
from mesafs.wire.sync import (
    MAX_BLOB_IDS,
    MAX_TREE_ROOTS,
    MAX_TREES_BYTES,
    ListedEntry,
    RepositoryState,
    encode_blob_head,
    encode_tree,
)

LEASE_NS = 3_600_000_000_000
#: The roots of one request always come, but not without end.
MAX_ROOTS_BYTES = 64 << 20
FRAME_CACHE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_ABSENT = BlobId(bytes(20))


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob to be sent: in memory, or a file with its bytes."""

    id: BlobId
    size: int
    content: bytes | Path

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` up to ``end``."""
        if isinstance(self.content, bytes):
            yield self.content[start:end]
            return
        with self.content.open("rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(_CHUNK_BYTES, end - start))):
                start += len(chunk)
                yield chunk


class SyncObjects:
    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._frames = _FrameCache()

    def resolve(
        self,
        principal: Principal,
        organisation: str,
        wanted: Sequence[tuple[str, str | None]] | None,
    ) -> Resolved:
        """Who this credential is, and where the named bookmarks stand; all repositories if None."""
        principal.require(Scope.READ)
        if organisation != principal.organisation_slug:
            raise NotFound("no such organisation", hint="check MESA_ORG against `mesa whoami`")
        with self._backing.catalogue.read() as connection:
            states: list[RepositoryState] = []
            if wanted is None:
                states += [
                    state_of(connection, row)
                    for row in repositories.of_organisation(
                        connection, principal.organisation, only=principal.repositories
                    )
                ]
            else:
                for name, bookmark in wanted:
                    try:
                        row = find(connection, principal, Scope.READ, name)
                    except NotFound as error:
                        raise NotFound(
                            f"no such repository: {name[:120]}", hint=error.hint
                        ) from None
                    states.append(state_of(connection, row, bookmark))
            return Resolved(
                server=organisations.fact(connection, "server_id") or "",
                epoch=organisations.fact(connection, "epoch") or "",
                scopes=tuple(scope.value for scope in Scope if scope in principal.scopes),
                expires_at_seconds=principal.expires_at_seconds,
                key=principal.key_id,
                repositories=tuple(states),
            )

    def trees(
        self,
        principal: Principal,
        repository: RepositoryId,
        roots: Sequence[TreeId],
        *,
        depth: int,
        max_bytes: int,
    ) -> Iterator[bytes]:
        """Frames, breadth first: every root, then what is below while it fits into ``max_bytes``."""
        store = self._readable(principal, repository)
        if not 1 <= len(roots) <= MAX_TREE_ROOTS:
            raise Invalid(f"roots must name 1 to {MAX_TREE_ROOTS} trees")
        budget = min(max_bytes, MAX_TREES_BYTES)
        seen = dict.fromkeys(roots)
        frames = [self._frame(repository, store, tree) for tree in seen]
        total = sum(len(frame.data) for frame in frames)
        if total > MAX_ROOTS_BYTES:
            raise Exhausted("these trees are too large for one answer", hint="name fewer roots")
        level = list(frames)
        for _ in range(depth):
            below: list[_Frame] = []
            for frame in level:
                for tree in frame.subtrees:
                    if tree in seen:
                        continue
                    if total >= budget:
                        return iter([frame.data for frame in frames])
                    found = self._frame(repository, store, tree)
                    if total + len(found.data) > budget:
                        return iter([frame.data for frame in frames])
                    seen[tree] = None
                    frames.append(found)
                    below.append(found)
                    total += len(found.data)
            level = below
        return iter([frame.data for frame in frames])

    def blobs(
        self, principal: Principal, repository: RepositoryId, wanted: Sequence[BlobId]
    ) -> Iterator[bytes]:
        """A frame for each id, in the order asked; one that is not here says so."""
        store = self._readable(principal, repository)
        if len(wanted) > MAX_BLOB_IDS:
            raise Invalid(f"ids must name at most {MAX_BLOB_IDS} blobs")
        return _blob_frames(self._open_blob, store, wanted)

    def blob(self, principal: Principal, repository: RepositoryId, blob: BlobId) -> Blob:
        return self._open_blob(self._readable(principal, repository), blob)

    def conflict_texts(
        self,
        principal: Principal,
        repository: RepositoryId,
        commit: CommitId,
        paths: Sequence[bytes],
    ) -> Iterator[bytes]:
        """A frame for each path: the text with markers, under the id it would have as a blob."""
        store = self._readable(principal, repository)
        if len(paths) > MAX_BLOB_IDS:
            raise Invalid(f"paths must name at most {MAX_BLOB_IDS} paths")
        with self._backing.catalogue.read() as connection:
            if (
                changes.by_commit(connection, repository, commit) is None
                and changes.by_past_commit(connection, repository, commit) is None
            ):
                raise NoSuchObject("commit", commit)
            contested = conflicts.of_commit(connection, repository, commit)

        def frames() -> Iterator[bytes]:
            for path in paths:
                conflict = contested.get(path)
                if conflict is None:
                    yield encode_blob_head(_ABSENT, None)
                    continue
                text = render(store, conflict)
                yield encode_blob_head(blob_id(text), len(text))
                yield text

        return frames()

    def require_write(self, principal: Principal, repository: RepositoryId) -> None:
        """Whether a pack would be taken at all, asked before its bytes are read."""
        with self._backing.catalogue.read() as connection:
            find_by_id(connection, principal, Scope.WRITE, repository)

    def receive_pack(
        self,
        principal: Principal,
        repository: RepositoryId,
        checkout: CheckoutId,
        chunks: Iterable[bytes],
    ) -> ReceivedPack:
        """Judge and store a pack; it is on disk when this returns, and kept for that checkout.

        Not an operation: nothing that anybody sees has changed.
        """
        self.require_write(principal, repository)
        if not 1 <= len(checkout) <= 128 or not checkout.isascii() or not checkout.isprintable():
            raise Invalid("checkout must be 1 to 128 printable ASCII characters")
        backing = self._backing
        pack = receive(backing.objects.open(repository), chunks, backing.files)
        now_ns = backing.clock.now_ns()
        table = schema.packs
        row = {
            "repo_id": repository,
            "name": pack.name,
            "size": pack.size_bytes,
            "objects": len(pack.object_ids),
            "checkout_id": checkout,
            "lease_until_ns": now_ns + LEASE_NS,
            "created_ns": now_ns,
        }
        backing.catalogue.mutate(
            lambda connection: connection.execute(
                insert(table)
                .values(**row)
                .on_conflict_do_update(
                    index_elements=[table.c.repo_id, table.c.name],
                    set_={"lease_until_ns": row["lease_until_ns"], "checkout_id": checkout},
                )
            ).close()
        )
        return pack

    def _readable(self, principal: Principal, repository: RepositoryId) -> ObjectStore:
        with self._backing.catalogue.read() as connection:
            row = find_by_id(connection, principal, Scope.READ, repository)
        return self._backing.objects.open(row.id)

    def _open_blob(self, store: ObjectStore, blob: BlobId) -> Blob:
        size = store.blob_size(blob)
        if size < LARGE_BYTES:
            return Blob(blob, size, store.blob(blob))
        return Blob(blob, size, raw_copy(store, blob, self._backing.files))

    def _frame(self, repository: RepositoryId, store: ObjectStore, tree: TreeId) -> _Frame:
        found = self._frames.get(repository, tree)
        if found is None:
            found = _make_frame(store, tree)
            self._frames.put(repository, tree, found)
        return found


@dataclass(frozen=True, slots=True)
class _Frame:
    data: bytes
    subtrees: tuple[TreeId, ...]


class _FrameCache:
    """The frames used last, up to a number of bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[RepositoryId, TreeId], _Frame] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, repository: RepositoryId, tree: TreeId) -> _Frame | None:
        with self._lock:
            found = self._kept.get((repository, tree))
            if found is not None:
                self._kept.move_to_end((repository, tree))
            return found

    def put(self, repository: RepositoryId, tree: TreeId, frame: _Frame) -> None:
        with self._lock:
            if (repository, tree) in self._kept:
                return
            self._kept[repository, tree] = frame
            self._bytes += len(frame.data)
            while self._bytes > FRAME_CACHE_BYTES:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped.data)


def _make_frame(store: ObjectStore, tree: TreeId) -> _Frame:
    entries = store.tree(tree)
    data = encode_tree(
        tree,
        (ListedEntry(entry.mode, entry.id, _size(store, entry), entry.name) for entry in entries),
    )
    return _Frame(data, tuple(TreeId(entry.id) for entry in entries if entry.is_tree))


def _size(store: ObjectStore, entry: TreeEntry) -> int:
    if entry.is_tree or entry.mode == MODE_GITLINK:
        return 0
    return store.blob_size(BlobId(entry.id))


def _blob_frames(
    open_blob: Callable[[ObjectStore, BlobId], Blob], store: ObjectStore, wanted: Sequence[BlobId]
) -> Iterator[bytes]:
    pending: list[bytes] = []
    size = 0
    for blob in wanted:
        try:
            found = open_blob(store, blob)
        except NoSuchObject:
            pending.append(encode_blob_head(blob, None))
            continue
        pending.append(encode_blob_head(blob, found.size))
        for chunk in found.chunks(0, found.size):
            pending.append(chunk)
            size += len(chunk)
            if size >= _CHUNK_BYTES:
                yield b"".join(pending)
                pending, size = [], 0
    if pending:
        yield b"".join(pending)
