"""API keys as the REST interface shows them. The text of a key appears once, when it is created."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mesafs.wire.shapes import OMITTED, Shape


@dataclass(frozen=True, slots=True)
class ApiKey(Shape):
    id: str
    name: str | None
    scopes: tuple[str, ...]
    repo_ids: tuple[str, ...] | None
    metadata: dict[str, Any] | None
    tags: dict[str, str]
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKeyPage(Shape):
    """``GET /{org}/api-keys``."""

    next_cursor: str | None
    has_more: bool
    api_keys: tuple[ApiKey, ...]


@dataclass(frozen=True, slots=True)
class CreatedApiKey(Shape):
    """``POST /{org}/api-keys``."""

    id: str
    key: str = field(repr=False)
    name: str | None
    scopes: tuple[str, ...]
    repo_ids: tuple[str, ...] | None
    tags: dict[str, str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewApiKey(Shape):
    """Body of ``POST /{org}/api-keys``."""

    name: str | None = field(default=None, metadata=OMITTED)
    scopes: tuple[str, ...] | None = field(default=None, metadata=OMITTED)
    repo_ids: tuple[str, ...] | None = field(default=None, metadata=OMITTED)
    expires_in_seconds: int | None = field(default=None, metadata=OMITTED)
    tags: dict[str, str] | None = field(default=None, metadata=OMITTED)
