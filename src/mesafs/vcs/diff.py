"""What changed between two trees: files, and lines within them.

Renames are found only where the content is the same, byte for byte. Lines are compared by libgit2.
What is too large, binary or too much is named with the reason, never left out silently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import pygit2

from mesafs.git.text_merge import BINARY_PROBE_BYTES
from mesafs.model.ids import EMPTY_BLOB, BlobId, TreeId
from mesafs.model.merge import Conflict
from mesafs.model.objects import MODE_GITLINK, TreeEntry
from mesafs.model.paths import join
from mesafs.store.objects import Objects
from mesafs.vcs.conflicts import is_textual, regions_of
from mesafs.vcs.trees import changed_paths

Status = Literal["added", "modified", "deleted", "renamed"]
LineKind = Literal["context", "added", "deleted", "annotation"]
OmittedReason = Literal["binary", "too_large", "file_limit"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is shown: files with lines, bytes of one file, and entries at all."""

    files_with_lines: int = 300
    file_bytes: int = 1 << 20
    entries: int = 3000


@dataclass(frozen=True, slots=True)
class Line:
    kind: LineKind
    text: bytes


@dataclass(frozen=True, slots=True)
class Hunk:
    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One path. ``size_bytes`` is the new content's, or the old one's where the file was deleted.

    ``hunks`` is None exactly when ``omitted_reason`` says why. A change of mode alone has no hunk.
    """

    path: bytes
    status: Status
    old: TreeEntry | None
    new: TreeEntry | None
    old_path: bytes | None
    size_bytes: int
    omitted_reason: OmittedReason | None
    hunks: tuple[Hunk, ...] | None


@dataclass(frozen=True, slots=True)
class TreeDiff:
    """``truncated``: there are more entries than are listed."""

    files: tuple[FileDiff, ...]
    truncated: bool

    @property
    def additions(self) -> int:
        return self._count("added")

    @property
    def deletions(self) -> int:
        return self._count("deleted")

    def _count(self, kind: LineKind) -> int:
        return sum(
            line.kind == kind
            for file in self.files
            for hunk in file.hunks or ()
            for line in hunk.lines
        )


@dataclass(frozen=True, slots=True)
class ConflictHunk:
    """One block of a conflicted file. Lines are counted in the base (old) and the target (new)."""

    hunk_id: str
    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    target: bytes | None
    base: bytes | None
    source: bytes | None


DEFAULT_LIMITS = Limits()
_DECLARED: dict[str, LineKind] = {" ": "context", "+": "added", "-": "deleted"}


def diff(
    objects: Objects,
    base: TreeId,
    head: TreeId,
    *,
    limits: Limits = DEFAULT_LIMITS,
    without: Collection[bytes] = (),
) -> TreeDiff:
    """Files that differ, by path; those in ``without`` (conflicted ones) are left to the caller."""
    files = [
        found
        for path, old, new in changed_paths(objects, base, head)
        if (found := (join(path), old, new))[0] not in without
    ]
    entries = _renamed(files)
    shown = entries[: limits.entries]
    return TreeDiff(
        tuple(
            _with_lines(objects, entry, limits, beyond=at >= limits.files_with_lines)
            for at, entry in enumerate(shown)
        ),
        truncated=len(entries) > len(shown),
    )


def conflict_hunks(objects: Objects, path: bytes, conflict: Conflict) -> tuple[ConflictHunk, ...]:
    """The blocks of a conflicted text; none where a side lacks the path or is not text."""
    if not is_textual(objects, conflict) or any(
        term is None for term in (*conflict.adds, *conflict.removes[1:])
    ):
        return ()
    old_line = new_line = 1
    hunks: list[ConflictHunk] = []
    for number, region in enumerate(regions_of(objects, conflict)):
        if isinstance(region, bytes):
            count = region.count(b"\n")
            old_line, new_line = old_line + count, new_line + count
            continue
        target, base, source = region[0], region[1], region[-1]
        old_count, new_count = _line_count(base), _line_count(target)
        digest = hashlib.sha256(b"\0".join((path, b"%d" % number, *region))).hexdigest()[:16]
        hunks.append(
            ConflictHunk(digest, old_line, old_count, new_line, new_count, target, base, source)
        )
        old_line, new_line = old_line + old_count, new_line + new_count
    return tuple(hunks)


def _line_count(text: bytes) -> int:
    return text.count(b"\n") + (1 if text and not text.endswith(b"\n") else 0)


def _renamed(files: list[tuple[bytes, TreeEntry | None, TreeEntry | None]]) -> list[FileDiff]:
    """Pair each deleted file with an added one of the same content; an empty file proves nothing."""
    gone: dict[bytes, list[tuple[bytes, TreeEntry]]] = {}
    for path, old, new in files:
        if old is not None and new is None and old.id != EMPTY_BLOB:
            gone.setdefault(old.id, []).append((path, old))
    origins: dict[bytes, tuple[bytes, TreeEntry]] = {}
    for path, old, new in files:
        if old is None and new is not None and gone.get(new.id):
            origins[path] = gone[new.id].pop(0)
    moved = {path for path, _ in origins.values()}
    entries: list[FileDiff] = []
    for path, old, new in files:
        if path in moved:
            continue
        if path in origins:
            old_path, was = origins[path]
            entries.append(FileDiff(path, "renamed", was, new, old_path, 0, None, ()))
        else:
            status: Status = "added" if old is None else "deleted" if new is None else "modified"
            entries.append(FileDiff(path, status, old, new, None, 0, None, ()))
    return entries


def _with_lines(objects: Objects, entry: FileDiff, limits: Limits, *, beyond: bool) -> FileDiff:
    sizes = [_size(objects, side) for side in (entry.old, entry.new)]
    size = sizes[0] if entry.new is None else sizes[1]
    reason: OmittedReason | None = None
    if entry.old is not None and entry.new is not None and entry.old.id == entry.new.id:
        return replace(entry, size_bytes=size)
    if beyond:
        reason = "file_limit"
    elif any(side is not None and side.mode == MODE_GITLINK for side in (entry.old, entry.new)):
        reason = "binary"
    elif max(sizes) > limits.file_bytes:
        reason = "too_large"
    else:
        old, new = (_content(objects, side) for side in (entry.old, entry.new))
        if b"\0" in old[:BINARY_PROBE_BYTES] or b"\0" in new[:BINARY_PROBE_BYTES]:
            reason = "binary"
        else:
            return replace(entry, size_bytes=size, hunks=hunks_of(old, new))
    return replace(entry, size_bytes=size, omitted_reason=reason, hunks=None)


def hunks_of(old: bytes, new: bytes) -> tuple[Hunk, ...]:
    """The lines that differ, with three lines around them."""
    patch = pygit2.Patch.create_from(old, new, flag=pygit2.enums.DiffOption.FORCE_TEXT)
    return tuple(
        Hunk(
            hunk.old_start,
            hunk.old_lines,
            hunk.new_start,
            hunk.new_lines,
            tuple(
                Line(_DECLARED.get(line.origin, "annotation"), line.raw_content)
                for line in hunk.lines
            ),
        )
        for hunk in patch.hunks
    )


def _size(objects: Objects, entry: TreeEntry | None) -> int:
    if entry is None or entry.mode == MODE_GITLINK:
        return 0
    return objects.blob_size(BlobId(entry.id))


def _content(objects: Objects, entry: TreeEntry | None) -> bytes:
    return b"" if entry is None else objects.blob(BlobId(entry.id))
