"""The one gate for names of repositories and bookmarks."""

from __future__ import annotations

import re

from mesafs.base.errors import Invalid

_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}")
RESERVED_REPOSITORIES = frozenset(
    {
        "repo",
        "repos",
        "api-key",
        "api-keys",
        "webhook-targets",
        "whoami",
        "mcp",
        "install.sh",
        "install.json",
        "client.tar.gz",
    }
)
MAX_BOOKMARK_BYTES = 250
# What git refuses in a ref name: see git-check-ref-format(1).
_BAD_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


def check_repository_name(name: str) -> str:
    """A name that is safe in a URL, in a path and beside the server's own routes."""
    why = _repository_objection(name)
    if why is not None:
        raise Invalid(
            f"{name[:120]!r} cannot be the name of a repository: {why}",
            hint="use 1 to 100 letters, digits, dots, hyphens and underscores, such as my-repo",
        )
    return name


def _repository_objection(name: str) -> str | None:
    folded = name.casefold()
    if _REPOSITORY.fullmatch(name) is None:
        return "it has other characters, none, or too many"
    if name.startswith("-") or name.endswith("."):
        return "it begins with a hyphen or ends with a dot"
    if name in {".", ".."} or folded.endswith(".git"):
        return "it is a dot name or ends with .git"
    if folded in RESERVED_REPOSITORIES:
        return "it is reserved"
    return None


def check_bookmark_name(name: str, *, field: str = "name") -> str:
    """A name that git takes as a branch."""
    if not _is_branch(name):
        raise Invalid(
            f"{field}: {name[:120]!r} cannot be the name of a bookmark",
            hint="use a name that git takes for a branch, such as feature/login",
        )
    return name


def _is_branch(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        1 <= size <= MAX_BOOKMARK_BYTES
        and name not in {"@", "HEAD"}
        and not name.startswith(("-", "/"))
        and not name.endswith(("/", "."))
        and _BAD_IN_REF.search(name) is None
        and all(
            part and not part.startswith(".") and not part.endswith(".lock")
            for part in name.split("/")
        )
    )
