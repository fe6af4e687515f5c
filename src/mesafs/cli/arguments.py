"""Arguments that several commands share: a repository, scopes, a lifetime, pages."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from mesafs.base.errors import Invalid

Page = TypeVar("Page", bound="_Page")

_UNITS_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)")


class _Page(Protocol):
    @property
    def next_cursor(self) -> str | None: ...

    @property
    def has_more(self) -> bool: ...


def add_repository(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repo", required=True, metavar="[ORG/]NAME", help="the repository")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def organisation_and_name(text: str) -> tuple[str | None, str]:
    """``ORG/NAME`` or ``NAME``."""
    organisation, slash, name = text.rpartition("/")
    if not name or (slash and (not organisation or "/" in organisation)):
        raise Invalid(f"{text[:200]!r} does not name a repository", hint="write ORG/NAME")
    return organisation or None, name


def duration_seconds(text: str) -> int:
    """``90``, ``15m``, ``1h``, ``7d``."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise Invalid(f"{text[:50]!r} is not a length of time", hint="write it like 15m, 1h or 7d")
    return int(match[1]) * _UNITS_SECONDS[match[2]]


def words(given: list[str] | None) -> list[str] | None:
    """Values of a repeatable option, each of which may hold several between commas."""
    if given is None:
        return None
    return [word.strip() for each in given for word in each.split(",") if word.strip()]


def all_pages(fetch: Callable[[str | None], Page]) -> Iterator[Page]:
    """Every page of a list; a cursor that comes again would be a list without end."""
    cursor: str | None = None
    seen: set[str] = set()
    while True:
        page = fetch(cursor)
        yield page
        cursor = page.next_cursor
        if not page.has_more or cursor is None or cursor in seen:
            return
        seen.add(cursor)
