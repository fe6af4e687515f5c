"""Repositories and their bookmarks as the REST interface shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mesafs.wire.shapes import OMITTED, Shape


@dataclass(frozen=True, slots=True)
class Repo(Shape):
    """``head_change_id`` is the change of the default bookmark; the root's id when empty."""

    id: str
    org: str
    name: str
    default_bookmark: str
    head_change_id: str
    upstream: dict[str, Any] | None
    created_at: datetime
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class RepoPage(Shape):
    """``GET /{org}/repos``."""

    next_cursor: str | None
    has_more: bool
    repos: tuple[Repo, ...]


@dataclass(frozen=True, slots=True)
class NewRepo(Shape):
    """Body of ``POST /{org}/repos``; ``{}`` is legal and gets a generated name."""

    name: str | None = field(default=None, metadata=OMITTED)
    default_bookmark: str | None = field(default=None, metadata=OMITTED)
    tags: dict[str, str] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class RepoUpdate(Shape):
    """Body of ``PATCH /{org}/{repo}``: what is left out stays; a tag of None is removed."""

    name: str | None = field(default=None, metadata=OMITTED)
    default_bookmark: str | None = field(default=None, metadata=OMITTED)
    tags: dict[str, str | None] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class Bookmark(Shape):
    name: str
    change_id: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class BookmarkPage(Shape):
    """``GET /{org}/{repo}/bookmarks``."""

    next_cursor: str | None
    has_more: bool
    bookmarks: tuple[Bookmark, ...]


@dataclass(frozen=True, slots=True)
class NewBookmark(Shape):
    """Body of ``POST /{org}/{repo}/bookmarks``."""

    name: str
    change_id: str
