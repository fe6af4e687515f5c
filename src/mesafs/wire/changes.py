"""Changes as the REST interface shows them, and the edits with which it makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from mesafs.wire.shapes import OMITTED, Shape


@dataclass(frozen=True, slots=True)
class Author(Shape):
    """Author or committer, of an answer and of a request."""

    name: str
    email: str
    date: datetime | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class Change(Shape):
    id: str
    current_commit_oid: str
    is_conflicted: bool
    message: str
    author: Author
    committer: Author
    parents: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ChangeDetail(Change):
    """``GET …/changes/{change_id}``: the paths it touches and those it holds in conflict."""

    files: tuple[str, ...]
    conflicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangePage(Shape):
    """``GET …/changes``: newest first, current versions only, without the root."""

    next_cursor: str | None
    has_more: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class FileUpsert(Shape):
    """Create or replace a file. ``content`` is base64; without ``mode`` an existing one is kept."""

    path: str
    content: str
    encoding: Literal["base64"] | None = "base64"
    action: Literal["upsert"] | None = field(default=None, metadata=OMITTED)
    mode: Literal["100644", "100755"] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class FileDelete(Shape):
    path: str
    action: Literal["delete"] = "delete"


FileChange = FileUpsert | FileDelete


@dataclass(frozen=True, slots=True)
class NewChange(Shape):
    """Body of ``POST …/changes``. With ``files``, author and message are required by the server."""

    base_change_id: str
    message: str | None = field(default=None, metadata=OMITTED)
    author: Author | None = field(default=None, metadata=OMITTED)
    committer: Author | None = field(default=None, metadata=OMITTED)
    files: tuple[FileUpsert | FileDelete, ...] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class ChangeUpdate(Shape):
    """Body of ``PATCH …/changes/{change_id}``: what is left out stays; ``""`` clears the message."""

    message: str | None = field(default=None, metadata=OMITTED)
    author: Author | None = field(default=None, metadata=OMITTED)
    committer: Author | None = field(default=None, metadata=OMITTED)
    files: tuple[FileUpsert | FileDelete, ...] | None = field(default=None, metadata=OMITTED)
    base_commit_oid: str | None = field(default=None, metadata=OMITTED)
