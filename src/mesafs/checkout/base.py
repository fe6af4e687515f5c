"""What a checkout's edits rest on, and where it stands with the server."""

from __future__ import annotations

from dataclasses import dataclass

from mesafs.model.ids import ChangeId, CommitId, PublishId, TreeId
from mesafs.wire.sync import RepositoryState


@dataclass(frozen=True, slots=True)
class Base:
    """The server's state that this checkout last adopted.

    ``tree`` is the content of ``commit``. ``merge_base`` is what local edits started from: the same
    tree, except for paths that were being edited while a newer ``tree`` was adopted; those keep the
    entry that the edit had seen, so that the next publish merges instead of overwriting.
    ``first_seen_seconds`` is the time shown for files that were there when the checkout was made.
    """

    bookmark: str
    change: ChangeId
    commit: CommitId
    tree: TreeId
    merge_base: TreeId
    operation: int
    epoch: str
    first_seen_seconds: int
    conflicts: frozenset[bytes] = frozenset()

    @classmethod
    def first(cls, state: RepositoryState) -> Base:
        return cls(
            bookmark=state.bookmark,
            change=state.change,
            commit=state.commit,
            tree=state.tree,
            merge_base=state.tree,
            operation=state.operation,
            epoch=state.epoch,
            first_seen_seconds=state.committed_seconds,
            conflicts=frozenset(state.conflicts),
        )

    def advanced(self, state: RepositoryState, *, merge_base: TreeId) -> Base:
        """The base after ``state`` was adopted."""
        return Base(
            bookmark=self.bookmark,
            change=state.change,
            commit=state.commit,
            tree=state.tree,
            merge_base=merge_base,
            operation=state.operation,
            epoch=state.epoch,
            first_seen_seconds=self.first_seen_seconds,
            conflicts=frozenset(state.conflicts),
        )

    def encode(self) -> bytes:
        """As a journal record, kind ``B``."""
        return b"\0".join(
            (
                b"B",
                self.bookmark.encode(),
                self.change.encode(),
                self.commit.hex().encode(),
                self.tree.hex().encode(),
                self.merge_base.hex().encode(),
                b"%d" % self.operation,
                self.epoch.encode(),
                b"%d" % self.first_seen_seconds,
                *sorted(self.conflicts),
            )
        )

    @classmethod
    def decode(cls, record: list[bytes]) -> Base:
        return cls(
            bookmark=record[1].decode(),
            change=ChangeId(record[2].decode()),
            commit=CommitId(bytes.fromhex(record[3].decode())),
            tree=TreeId(bytes.fromhex(record[4].decode())),
            merge_base=TreeId(bytes.fromhex(record[5].decode())),
            operation=int(record[6]),
            epoch=record[7].decode(),
            first_seen_seconds=int(record[8]),
            conflicts=frozenset(record[9:]),
        )


@dataclass(frozen=True, slots=True)
class PendingPublish:
    """A publish that was journaled before it was sent and whose answer has not been adopted."""

    publish_id: PublishId
    tree: TreeId
    touched_conflicts: tuple[bytes, ...]

    def encode(self) -> bytes:
        """As a journal record, kind ``p``."""
        return b"\0".join(
            (b"p", self.publish_id.encode(), self.tree.hex().encode(), *self.touched_conflicts)
        )

    @classmethod
    def decode(cls, record: list[bytes]) -> PendingPublish:
        return cls(
            PublishId(record[1].decode()),
            TreeId(bytes.fromhex(record[2].decode())),
            tuple(record[3:]),
        )
