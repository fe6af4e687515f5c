"""What a checkout needs from outside and does not know how to get: objects, and a place to publish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol

from mesafs.model.ids import BlobId, CommitId, TreeId
from mesafs.wire.sync import ListedEntry, PublishAnswer, PublishRequest


class Objects(Protocol):
    """Where objects of one repository come from. Errors are of kind UNAVAILABLE, DENIED, …"""

    def trees(
        self, roots: Sequence[TreeId], *, max_bytes: int
    ) -> Iterable[tuple[TreeId, list[ListedEntry]]]:
        """The roots and as many of their descendants as fit, unverified."""
        ...

    def blobs(self, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, int | None, BinaryIO]]:
        """Each blob's id, size and a reader of exactly its bytes, unverified; size None: absent."""
        ...

    def conflict_texts(
        self, commit: CommitId, paths: Sequence[bytes]
    ) -> Iterable[tuple[bytes, bytes]]:
        """Path and text with markers of each conflicted file."""
        ...


class Publisher(Protocol):
    """Where snapshots go."""

    def upload(self, pack: BinaryIO) -> None:
        """Give objects to the server; durable there when this returns."""
        ...

    def publish(self, request: PublishRequest) -> PublishAnswer: ...


class Invalidations(Protocol):
    """Whoever shows the checkout and must be told what it can no longer believe.

    Implementations queue: they are called with the checkout's lock held and must not block.
    """

    def content(self, ino: int) -> None:
        """Attributes and bytes of a file or the listing of a directory changed."""
        ...

    def entry(self, parent: int, name: bytes) -> None:
        """A name appeared, vanished or means something else."""
        ...

    def removed(self, parent: int, child: int, name: bytes) -> None:
        """A name and what it named are gone."""
        ...


class NoInvalidations:
    """For a checkout that nobody caches."""

    def content(self, ino: int) -> None: ...

    def entry(self, parent: int, name: bytes) -> None: ...

    def removed(self, parent: int, child: int, name: bytes) -> None: ...


Paths = Iterable[bytes]
