"""The unit of permission: ``read`` is part of ``write``, which is part of ``admin``.

A set of scopes is kept closed downwards, so that "does it grant read" is a membership test and
clamping one grant by another is an intersection.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from mesafs.base.errors import Invalid


class Scope(Enum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def implied(self) -> frozenset[Scope]:
        """The scope and every weaker one."""
        return frozenset(_ORDER[: _ORDER.index(self) + 1])


_ORDER = (Scope.READ, Scope.WRITE, Scope.ADMIN)
_BY_NAME = {scope.value: scope for scope in _ORDER}

Scopes = frozenset[Scope]
"""Closed downwards: with ``admin`` it holds ``write`` and ``read`` too."""

NOTHING: Scopes = frozenset()


def grant(scopes: Iterable[Scope]) -> Scopes:
    """Everything that these scopes allow."""
    return frozenset().union(*(scope.implied for scope in scopes))


def parse_claimed(value: object) -> Scopes:
    """Scopes that a token claims. Whatever is not exactly a list of known names grants nothing."""
    if not isinstance(value, list):
        return NOTHING
    return grant(_BY_NAME[name] for name in value if isinstance(name, str) and name in _BY_NAME)


def parse_requested(names: Iterable[str], *, field: str = "scopes") -> Scopes:
    """Scopes that a person asks for by name; an unknown name is an error that names the field."""
    wanted = list(names)
    for name in wanted:
        if name not in _BY_NAME:
            raise Invalid(
                f"{field} holds {name!r}, which is not a scope",
                hint="scopes are read, write and admin",
            )
    return grant(_BY_NAME[name] for name in wanted)


def clamp(claimed: Scopes, held: Scopes) -> Scopes:
    """What a token may do: what it claims, as far as its key may do it now."""
    return claimed & held


def names(scopes: Scopes) -> list[str]:
    """Names in rising order, implied ones included: the spelling in answers."""
    return [scope.value for scope in _ORDER if scope in scopes]
