"""Values that git stores: modes, tree entries, signatures, commits."""

from __future__ import annotations

from dataclasses import dataclass, field

from mesafs.model.ids import ChangeId, CommitId, TreeId

MODE_TREE = 0o040000
MODE_FILE = 0o100644
MODE_EXECUTABLE = 0o100755
MODE_SYMLINK = 0o120000
MODE_GITLINK = 0o160000

#: What publish, REST and import may write; history from elsewhere keeps git's odd old modes.
WRITABLE_MODES = frozenset({MODE_TREE, MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK})


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a git tree. ``id`` names a tree when ``mode`` is MODE_TREE, else a blob or commit."""

    mode: int
    name: bytes
    id: bytes

    @property
    def is_tree(self) -> bool:
        return self.mode == MODE_TREE


@dataclass(frozen=True, slots=True)
class Signature:
    """Who and when, as git writes it: seconds since the epoch and minutes east of UTC."""

    name: str
    email: str
    seconds: int
    offset_minutes: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """A git commit. ``extra`` are further headers in order, such as ``jj:trees``."""

    tree: TreeId
    parents: tuple[CommitId, ...]
    author: Signature
    committer: Signature
    message: str
    change_id: ChangeId | None = None
    extra: tuple[tuple[bytes, bytes], ...] = field(default=())
