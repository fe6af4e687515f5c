"""Who is calling, and the organisation it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mesafs.wire.shapes import Shape


@dataclass(frozen=True, slots=True)
class OrganisationName(Shape):
    id: str
    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class Whoami(Shape):
    """``GET /whoami``: scopes are the effective ones, clamped by the key."""

    org: OrganisationName
    key_id: str | None
    key_name: str | None
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Organisation(Shape):
    """``GET /{org}``."""

    created_at: datetime
    num_repos: int


@dataclass(frozen=True, slots=True)
class Success(Shape):
    """The answer of every deletion and revocation."""

    success: bool = True
