"""The difference of two changes as ``GET …/diff`` answers it in JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mesafs.wire.shapes import OMITTED, Shape


@dataclass(frozen=True, slots=True)
class DiffStats(Shape):
    entries: int
    additions: int
    deletions: int
    changes: int
    conflicted_entries: int
    conflicted_hunks: int


@dataclass(frozen=True, slots=True)
class DiffLine(Shape):
    kind: Literal["context", "added", "deleted", "annotation"]
    text: str


@dataclass(frozen=True, slots=True)
class DiffHunk(Shape):
    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    lines: tuple[DiffLine, ...]


@dataclass(frozen=True, slots=True)
class ConflictSide(Shape):
    """``content`` is base64."""

    content: str


@dataclass(frozen=True, slots=True)
class ConflictHunk(Shape):
    hunk_id: str
    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    target: ConflictSide | None
    base: ConflictSide | None
    source: ConflictSide | None


@dataclass(frozen=True, slots=True)
class DiffEntry(Shape):
    path: str
    status: Literal["added", "modified", "deleted", "renamed"]
    old_path: str | None
    is_conflicted: bool
    omitted_reason: Literal["binary", "too_large", "file_limit"] | None
    hunks: tuple[DiffHunk, ...] | None
    conflict_hunks: tuple[ConflictHunk, ...] | None
    size_bytes: int | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class ConflictedEntry(Shape):
    path: str
    hunks: tuple[ConflictHunk, ...]
    size_bytes: int | None = field(default=None, metadata=OMITTED)
    omitted_reason: Literal["binary", "too_large"] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class Diff(Shape):
    """``GET /{org}/{repo}/diff``. A conflicted path is in ``conflicted_entries`` only."""

    base_change_id: str
    head_change_id: str
    stats: DiffStats
    truncated: bool
    entries: tuple[DiffEntry, ...]
    conflicted_entries: tuple[ConflictedEntry, ...]
