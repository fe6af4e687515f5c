"""The one sync call that speaks of names: who is this credential, and where do these bookmarks stand?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mesafs.wire.shapes import Shape
from mesafs.wire.sync import RepositoryState


@dataclass(frozen=True, slots=True)
class Resolved:
    """Answer of ``POST /sync/v1/resolve``. ``scopes`` are effective; ``key`` is an API key's id."""

    server: str
    epoch: str
    scopes: tuple[str, ...]
    expires_at_seconds: int | None
    key: str
    repositories: tuple[RepositoryState, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "epoch": self.epoch,
            "scopes": list(self.scopes),
            "expires_at": self.expires_at_seconds,
            "key": self.key,
            "repositories": [state.to_json() for state in self.repositories],
        }

    @classmethod
    def from_json(cls, data: Any) -> Resolved:
        whole = _Answer.from_json(data)
        return cls(
            whole.server,
            whole.epoch,
            whole.scopes,
            whole.expires_at,
            whole.key,
            tuple(RepositoryState.from_json(each) for each in whole.repositories),
        )


@dataclass(frozen=True, slots=True)
class _Answer(Shape):
    server: str
    epoch: str
    scopes: tuple[str, ...]
    expires_at: int | None
    key: str
    repositories: tuple[Any, ...]


def resolve_request(
    organisation: str, repositories: Iterable[tuple[str, str | None]] | None
) -> bytes:
    """Body of ``POST /sync/v1/resolve``: names with a bookmark or None for the default one.

    None instead of a list asks for every repository that the credential may read.
    """
    names = (
        None
        if repositories is None
        else [{"name": name, "bookmark": bookmark} for name, bookmark in repositories]
    )
    return json.dumps({"organisation": organisation, "repositories": names}).encode()
