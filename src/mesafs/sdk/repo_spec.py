"""``ORG/NAME[=bookmark:NAME]``: which repository, seen at which bookmark."""

from __future__ import annotations

from dataclasses import dataclass

from mesafs.base.errors import Invalid


@dataclass(frozen=True, slots=True)
class RepoSpec:
    """``organisation`` is None where the text left it out; ``bookmark`` None means the default one."""

    organisation: str | None
    name: str
    bookmark: str | None = None


def parse_repo_spec(text: str) -> RepoSpec:
    """Read one; the organisation may be left out. A change id is not something to mount yet."""
    place, equals, revision = text.partition("=")
    organisation, slash, name = place.rpartition("/")
    kind, colon, bookmark = revision.partition(":")
    if (
        not name
        or (slash and (not organisation or "/" in organisation))
        or (equals and (kind not in {"bookmark", "change-id"} or not colon or not bookmark))
    ):
        raise Invalid(
            f"{text[:200]!r} does not name a repository", hint="write ORG/NAME=bookmark:main"
        )
    if kind == "change-id":
        raise Invalid(
            f"{text[:200]!r} names a change, and only bookmarks can be mounted so far",
            hint="create a bookmark at that change and name it: ORG/NAME=bookmark:NAME",
            code="NOT_IMPLEMENTED",
        )
    return RepoSpec(organisation or None, name, bookmark or None)
