"""The sync protocol between mount and server, as data: requests in JSON, content in frames.

``docs/reference/sync-protocol.md`` describes it for people. All numbers in frames are big-endian.
Everything under ``/sync/v1`` is keyed by repository id and checkout id, never by name, but for
``resolve``, which turns names into ids.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mesafs.base.errors import Corrupt, Invalid
from mesafs.model.ids import (
    BlobId,
    ChangeId,
    CheckoutId,
    CommitId,
    PublishId,
    RepositoryId,
    TreeId,
)
from mesafs.model.objects import TreeEntry
from mesafs.model.paths import from_text, to_text

PROTOCOL_VERSION = 1
PREFIX = "/sync/v1"
#: Request header by which a client names the protocol it speaks; the server refuses another with 400.
VERSION_HEADER = "Mesa-Sync-Version"

TREES_TYPE = "application/vnd.mesa.trees"
BLOBS_TYPE = "application/vnd.mesa.blobs"
PACK_TYPE = "application/x-git-packed-objects"

MAX_TREES_BYTES = 1 << 20
MAX_TREE_ROOTS = 1000
MAX_BLOB_IDS = 2000
MAX_PACK_BYTES = 32 << 20
#: A pack of one object may be larger: a large file has nowhere else to go.
MAX_ONE_OBJECT_PACK_BYTES = 2 << 30
#: The server sends a comment on an idle event stream this often; twice this silence is a dead stream.
HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """Where a bookmark of a repository stands: the answer of ``resolve`` and the body of an event.

    ``tree`` is the *content* tree of ``commit``: for a conflicted commit each conflicted path holds
    its first side there (git's own tree of such a commit has Jujutsu's form, which no mount shows).
    ``epoch`` changes when the server's data was restored; ``operation`` rises with each mutation.
    """

    repository: RepositoryId
    organisation: str
    name: str
    bookmark: str
    change: ChangeId
    commit: CommitId
    tree: TreeId
    committed_seconds: int
    operation: int
    epoch: str
    conflicts: tuple[bytes, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "repository": self.repository,
            "organisation": self.organisation,
            "name": self.name,
            "bookmark": self.bookmark,
            "change": self.change,
            "commit": self.commit.hex(),
            "tree": self.tree.hex(),
            "committed_seconds": self.committed_seconds,
            "operation": self.operation,
            "epoch": self.epoch,
            "conflicts": [to_text(path) for path in self.conflicts],
        }

    @classmethod
    def from_json(cls, data: Any) -> RepositoryState:
        with _reading("a repository's state"):
            return cls(
                repository=RepositoryId(_text(data["repository"])),
                organisation=_text(data["organisation"]),
                name=_text(data["name"]),
                bookmark=_text(data["bookmark"]),
                change=ChangeId(_text(data["change"])),
                commit=CommitId(_id(data["commit"])),
                tree=TreeId(_id(data["tree"])),
                committed_seconds=_number(data["committed_seconds"]),
                operation=_number(data["operation"]),
                epoch=_text(data["epoch"]),
                conflicts=tuple(from_text(_text(path)) for path in data["conflicts"]),
            )


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """``POST /sync/v1/repositories/{id}/publish``: make ``tree`` the content of the bookmark.

    ``base_commit`` is what the checkout last adopted. ``base_tree`` is sent only when the edits rest
    on something else than that commit's tree (a path was edited while a merge was adopted): it is
    then the merge base. ``touched_conflicts`` are conflicted paths of the base that were edited here:
    only those may become resolved, whatever their bytes.
    ``message`` describes the change when one is opened (import sets it); a mount sends none.
    """

    publish_id: PublishId
    checkout_id: CheckoutId
    bookmark: str
    change: ChangeId
    base_commit: CommitId
    tree: TreeId
    base_tree: TreeId | None = None
    touched_conflicts: tuple[bytes, ...] = ()
    message: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "publish_id": self.publish_id,
            "checkout_id": self.checkout_id,
            "bookmark": self.bookmark,
            "change": self.change,
            "base_commit": self.base_commit.hex(),
            "tree": self.tree.hex(),
            "base_tree": self.base_tree.hex() if self.base_tree is not None else None,
            "touched_conflicts": [to_text(path) for path in self.touched_conflicts],
            "message": self.message,
        }

    @classmethod
    def from_json(cls, data: Any) -> PublishRequest:
        with _reading("a publish request", error=Invalid):
            base_tree, message = data.get("base_tree"), data.get("message")
            return cls(
                publish_id=PublishId(_text(data["publish_id"])),
                checkout_id=CheckoutId(_text(data["checkout_id"])),
                bookmark=_text(data["bookmark"]),
                change=ChangeId(_text(data["change"])),
                base_commit=CommitId(_id(data["base_commit"])),
                tree=TreeId(_id(data["tree"])),
                base_tree=None if base_tree is None else TreeId(_id(base_tree)),
                touched_conflicts=tuple(
                    from_text(_text(path)) for path in data.get("touched_conflicts", ())
                ),
                message=None if message is None else _text(message),
            )


@dataclass(frozen=True, slots=True)
class PublishAnswer:
    """What a publish became. ``state.tree`` differs from the tree that was sent when the server merged."""

    publish_id: PublishId
    state: RepositoryState
    #: Paths that this publish made conflicted.
    conflicts: tuple[bytes, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return {
            "publish_id": self.publish_id,
            "state": self.state.to_json(),
            "conflicts": [to_text(path) for path in self.conflicts],
        }

    @classmethod
    def from_json(cls, data: Any) -> PublishAnswer:
        with _reading("a publish answer"):
            return cls(
                publish_id=PublishId(_text(data["publish_id"])),
                state=RepositoryState.from_json(data["state"]),
                conflicts=tuple(from_text(_text(path)) for path in data["conflicts"]),
            )


@dataclass(frozen=True, slots=True)
class ListedEntry:
    """A tree entry with the size of its blob: the text's length for a symlink, 0 for a tree."""

    mode: int
    id: bytes
    size: int
    name: bytes

    def entry(self) -> TreeEntry:
        return TreeEntry(self.mode, self.name, self.id)


_TREE_HEAD = struct.Struct(">20sI")
_TREE_ENTRY = struct.Struct(">I20sQH")
_BLOB_HEAD = struct.Struct(">20sQ")
#: Stands for "this repository has no such blob" in the place of a size.
ABSENT = (1 << 64) - 1


def encode_tree(tree: TreeId, entries: Iterable[ListedEntry]) -> bytes:
    """One frame: tree id, number of entries, then mode, id, size and name of each, in git's order."""
    parts: list[bytes] = []
    count = 0
    for entry in entries:
        parts += (_TREE_ENTRY.pack(entry.mode, entry.id, entry.size, len(entry.name)), entry.name)
        count += 1
    return b"".join((_TREE_HEAD.pack(tree, count), *parts))


def decode_trees(data: bytes | memoryview) -> Iterator[tuple[TreeId, list[ListedEntry]]]:
    """The frames of a whole answer. Nothing is verified here but the framing: hash what you keep."""
    view = memoryview(data)
    at = 0
    try:
        while at < len(view):
            tree, count = _TREE_HEAD.unpack_from(view, at)
            at += _TREE_HEAD.size
            entries: list[ListedEntry] = []
            for _ in range(count):
                mode, oid, size, length = _TREE_ENTRY.unpack_from(view, at)
                at += _TREE_ENTRY.size
                if at + length > len(view):
                    raise Corrupt("the server's list of trees ends in the middle of a name")
                entries.append(ListedEntry(mode, oid, size, bytes(view[at : at + length])))
                at += length
            yield TreeId(tree), entries
    except struct.error:
        raise Corrupt("the server's list of trees ends in the middle of a frame") from None


def encode_blob_head(blob: BlobId, size: int | None) -> bytes:
    """Head of a blob's frame, followed by ``size`` bytes; None says that there is no such blob."""
    return _BLOB_HEAD.pack(blob, ABSENT if size is None else size)


def decode_blobs(read: Callable[[int], bytes]) -> Iterator[tuple[BlobId, int | None]]:
    """Heads of the frames of a streamed answer.

    ``read(n)`` returns up to ``n`` bytes, none at the end. After each head with a size the caller
    must itself read exactly that many bytes before it asks for the next.
    """
    while True:
        head = _read_exactly(read, _BLOB_HEAD.size)
        if not head:
            return
        if len(head) < _BLOB_HEAD.size:
            raise Corrupt("the server's blobs end in the middle of a frame")
        blob, size = _BLOB_HEAD.unpack(head)
        yield BlobId(blob), None if size == ABSENT else size


def pack_limit_bytes(head: bytes) -> int:
    """How large a pack that begins with ``head`` may be (its header says how many objects it has)."""
    one = head[:4] == b"PACK" and head[8:12] == b"\0\0\0\x01"
    return MAX_ONE_OBJECT_PACK_BYTES if one else MAX_PACK_BYTES


def trees_request(roots: Iterable[TreeId], *, depth: int, max_bytes: int) -> bytes:
    """Body of ``POST …/trees``: breadth first from the roots; the roots' own frames always come."""
    return json.dumps(
        {"roots": [root.hex() for root in roots], "depth": depth, "max_bytes": max_bytes}
    ).encode()


def blobs_request(ids: Iterable[BlobId]) -> bytes:
    """Body of ``POST …/blobs``; the answer has one frame for each id, in the order asked."""
    return json.dumps({"ids": [blob.hex() for blob in ids]}).encode()


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class _reading:  # noqa: N801 - a context manager that reads as a statement
    """Turn any surprise while reading foreign JSON into one clear error."""

    def __init__(self, what: str, *, error: type[Corrupt | Invalid] = Corrupt) -> None:
        self._what, self._error = what, error

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None and issubclass(
            kind, KeyError | TypeError | ValueError | AttributeError
        ):
            raise self._error(f"{self._what} is not as the sync protocol says: {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a whole number, got {value!r}")
    return value


def _id(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) != 40:
        raise ValueError(f"expected an object id, got {value!r}")
    return bytes.fromhex(value)
