"""Giving local edits to the server, once, whatever happens in between.

The id of a publish is in the journal before the request leaves. When the outcome is unknown (the
answer was cut off, the daemon died) the same request is sent again first, and the server repeats its
first answer. Only a definite refusal gives the id up.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import BinaryIO, Self, cast

from mesafs.base.errors import Conflict, ErrorKind, MesaError
from mesafs.checkout.adoption import adopt
from mesafs.checkout.base import Base, PendingPublish
from mesafs.checkout.checkout import Checkout
from mesafs.checkout.nodes import Node
from mesafs.checkout.ports import Objects, Publisher
from mesafs.checkout.recovery import load_conflict_texts
from mesafs.checkout.snapshot import Snapshot, restore, take
from mesafs.git.packs import PackWriter
from mesafs.model.ids import CheckoutId, PublishId, RepositoryId
from mesafs.wire.sync import MAX_PACK_BYTES, PublishAnswer, PublishRequest, RepositoryState

_PACK_TARGET_BYTES = MAX_PACK_BYTES * 3 // 4
_MEMORY_TARGET_BYTES = 4 << 20
_STREAM_BYTES = 8 << 20

#: Code of the server's refusal of a tree whose objects it does not have.
MISSING_OBJECTS = "MISSING_OBJECTS"


def publish(
    checkout: Checkout,
    publisher: Publisher,
    objects: Objects,
    new_id: Callable[[], PublishId],
    *,
    hold_back: set[int] | None = None,
) -> None:
    """Publish what is edited now. When this returns, the server has every edit made before the call.

    Called without the lock, by one thread at a time. Errors leave every edit in the journal.
    """
    if checkout.pending is not None:
        _finish_pending(checkout, publisher, objects, checkout.pending)
    for attempt in (1, 2):
        try:
            _publish_once(checkout, publisher, objects, new_id, hold_back)
        except Conflict as error:
            if error.code != MISSING_OBJECTS or attempt == 2:
                raise
            _count_everything_unsent(checkout)
            continue
        return


def _publish_once(
    checkout: Checkout,
    publisher: Publisher,
    objects: Objects,
    new_id: Callable[[], PublishId],
    hold_back: set[int] | None,
) -> None:
    with _PackSpool(publisher, checkout) as spool:
        snapshot = take(checkout, spool.add, hold_back=hold_back)
        base = checkout.base
        if snapshot.tree == base.merge_base and not snapshot.touched_conflicts:
            adopt(checkout, _state_of(checkout, base), snapshot)
            return
        try:
            spool.flush()
        except BaseException:
            restore(checkout, snapshot)
            raise
    pending = PendingPublish(new_id(), snapshot.tree, snapshot.touched_conflicts)
    with checkout.lock:
        checkout.journal.append(pending.encode())
        checkout.pending = pending
    answer = _send(checkout, publisher, pending, snapshot)
    _take_answer(checkout, objects, answer, snapshot)


def _finish_pending(
    checkout: Checkout, publisher: Publisher, objects: Objects, pending: PendingPublish
) -> None:
    try:
        answer = _send(checkout, publisher, pending, None)
    except Conflict as error:
        if error.code == MISSING_OBJECTS:
            return  # it never arrived: what is edited goes into a new snapshot
        raise
    _take_answer(checkout, objects, answer, None)


def _send(
    checkout: Checkout, publisher: Publisher, pending: PendingPublish, snapshot: Snapshot | None
) -> PublishAnswer:
    base = checkout.base
    request = PublishRequest(
        publish_id=pending.publish_id,
        checkout_id=CheckoutId(checkout.identity.checkout.decode()),
        bookmark=base.bookmark,
        change=base.change,
        base_commit=base.commit,
        tree=pending.tree,
        base_tree=base.merge_base if base.merge_base != base.tree else None,
        touched_conflicts=pending.touched_conflicts,
    )
    checkout.files.reached("publish.send")
    try:
        answer = publisher.publish(request)
    except BaseException as error:
        if isinstance(error, MesaError) and error.kind not in {
            ErrorKind.UNAVAILABLE,
            ErrorKind.CORRUPT,
        }:
            with checkout.lock:  # a definite refusal: this id will never be answered otherwise
                checkout.journal.append(b"q")
                checkout.pending = None
        if snapshot is not None:
            restore(checkout, snapshot)
        raise
    checkout.files.reached("publish.ack")
    if answer.publish_id != pending.publish_id:
        if snapshot is not None:
            restore(checkout, snapshot)
        raise ForeignAnswer(pending.publish_id)
    return answer


class ForeignAnswer(MesaError):
    """The server answered another publish than the one sent: no acknowledgement of ours."""

    kind = ErrorKind.UNAVAILABLE

    def __init__(self, publish_id: PublishId) -> None:
        super().__init__(f"the server's answer is not to publish {publish_id}")


def _take_answer(
    checkout: Checkout, objects: Objects, answer: PublishAnswer, snapshot: Snapshot | None
) -> None:
    try:
        follow(checkout, objects, answer.state, snapshot)
    except BaseException:
        # Not adopted, so not acknowledged here: the publish stays pending and is asked for again.
        if snapshot is not None:
            restore(checkout, snapshot)
        raise


def follow(
    checkout: Checkout, objects: Objects, state: RepositoryState, snapshot: Snapshot | None = None
) -> None:
    """Adopt a state of the server, with the texts of its conflicts."""
    texts = checkout.conflict_texts
    load_conflict_texts(checkout, objects, Base.first(state))
    try:
        adopt(checkout, state, snapshot)
    except BaseException:
        checkout.conflict_texts = texts
        raise


def _state_of(checkout: Checkout, base: Base) -> RepositoryState:
    """The base again as a state, to adopt what was being edited when it was first adopted."""
    return RepositoryState(
        repository=RepositoryId(checkout.identity.repository.decode()),
        organisation="",
        name="",
        bookmark=base.bookmark,
        change=base.change,
        commit=base.commit,
        tree=base.tree,
        committed_seconds=checkout.clock.now_ns() // 1_000_000_000,
        operation=base.operation,
        epoch=base.epoch,
        conflicts=tuple(sorted(base.conflicts)),
    )


def _count_everything_unsent(checkout: Checkout) -> None:
    """Send all that was made here again: the server lacks something we thought it had."""
    with checkout.lock:
        for node in checkout.materialised.values():
            if not node.local:
                node.published = None
                if node.oid is not None:
                    checkout.unsent.add(node.oid)
                if node.writers == 0:
                    checkout.edited_files[node.ino] = node
        _count_unsent_below(checkout, checkout.root)


def _count_unsent_below(checkout: Checkout, directory: Node) -> None:
    if directory.children is None:
        return
    directory.edited = True
    for child in directory.children.values():
        if child.is_directory:
            _count_unsent_below(checkout, child)
        elif child.is_symlink and child.target is not None and child.oid is not None:
            checkout.unsent.add(child.oid)


class _PackSpool:
    """Collects objects into packs of bounded size, each uploaded when it is full."""

    def __init__(self, publisher: Publisher, checkout: Checkout) -> None:
        self._publisher = publisher
        self._checkout = checkout
        self._directory = checkout.journal.directory
        self._file: BinaryIO | None = None
        self._writer: PackWriter | None = None
        self._given: set[bytes] = set()
        self._target_bytes = _PACK_TARGET_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def add(self, kind: int, object_id: bytes, content: bytes | tuple[int, int]) -> None:
        if object_id in self._given:
            return
        self._given.add(object_id)
        size = len(content) if isinstance(content, bytes) else content[1]
        writer = self._writer
        if writer is not None and len(writer) and writer.size_bytes + size > self._target_bytes:
            self.flush()
            writer = None
        if writer is None:
            self._file = self._scratch(size)
            writer = self._writer = PackWriter(self._file)
        if isinstance(content, bytes):
            writer.add(kind, object_id, content)
        else:
            fd, offset = content[0], 0

            def read(count: int) -> bytes:
                nonlocal offset
                chunk = os.pread(fd, count, offset)
                offset += len(chunk)
                return chunk

            writer.add_stream(kind, object_id, size, read)

    def _scratch(self, size_bytes: int) -> BinaryIO:
        """A file without a name; in memory while the disk is full, since publishing is what frees it."""
        status = os.statvfs(self._directory)
        free = status.f_bavail * status.f_frsize
        if free < 2 * max(size_bytes, _PACK_TARGET_BYTES) and size_bytes <= MAX_PACK_BYTES:
            self._target_bytes = _MEMORY_TARGET_BYTES
            return cast("BinaryIO", os.fdopen(os.memfd_create("mesa-pack"), "w+b"))
        self._target_bytes = _PACK_TARGET_BYTES
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self._directory))

    def flush(self) -> None:
        """Upload what is collected."""
        if self._file is None or self._writer is None:
            return
        self._writer.finish()
        self._file.seek(0)
        self._checkout.files.reached("publish.pack")
        self._publisher.upload(self._file)
        self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._writer = None
