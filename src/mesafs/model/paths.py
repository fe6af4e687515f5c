"""The one gate for names and paths inside a repository.

A name is bytes, checked once where it enters, kept byte for byte when legal and never repaired.
What git must never see (``.git`` in any spelling that some filesystem takes for it, ``..``, NUL) is
refused by :func:`check_name`, whatever library sits below.

In JSON a name is text, spelled by :func:`to_text` and read back by :func:`from_text`.
"""

from __future__ import annotations

import re
from typing import ClassVar

from mesafs.base.errors import Invalid

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
MAX_DEPTH = 256

RepoPath = tuple[bytes, ...]
"""Components from the root of the tree; the empty tuple is the root itself."""

# Code points that HFS+ leaves out when it compares names (git's list, utf8.c, next_hfs_char).
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_NTFS_STREAM = re.compile(rb":.*", re.DOTALL)
_SHORT_GIT = re.compile(rb"git~[0-9]+", re.IGNORECASE)


class IllegalName(Invalid):
    """A name or path that no repository may hold."""

    default_code: ClassVar[str | None] = "INVALID_PATH"

    def __init__(self, name: bytes, why: str) -> None:
        super().__init__(f"{to_text(name)[:200]!r} cannot be in a repository: {why}")
        self.name = name
        self.why = why


def check_name(name: bytes) -> None:
    """Raise :class:`IllegalName` unless ``name`` may be an entry of a tree."""
    why = objection(name)
    if why is not None:
        raise IllegalName(name, why)


def objection(name: bytes) -> str | None:
    """Why ``name`` may not be an entry of a tree, or None when it may."""
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    if b"\0" in name or b"/" in name:
        return "it holds NUL or a slash"
    if name in {b".", b".."}:
        return "it is a dot name"
    first = name[0]
    # Fast path: only names that can spell .git, git~1 or hide behind a backslash need a closer look.
    if first not in b".gG\xe2\xef" and b"\\" not in name:
        return None
    for part in name.split(b"\\"):
        if part == b".." and part != name:
            return "a part of it is '..' where a backslash separates"
        if is_git_alias(part):
            return "some filesystems take it for .git"
    return None


def is_git_alias(name: bytes) -> bool:
    """Whether a case-insensitive, NTFS or HFS+ filesystem would open ``.git`` under this name."""
    plain = _NTFS_STREAM.sub(b"", name).rstrip(b". ").lower()
    if plain == b".git" or _SHORT_GIT.fullmatch(plain):
        return True
    if name.isascii():
        return False
    return _HFS_IGNORED.sub("", name.decode("utf-8", "replace")).lower() == ".git"


def parse(path: bytes) -> RepoPath:
    """Split and check a slash-separated path; the root is not a legal spelling here."""
    if len(path) > MAX_PATH_BYTES:
        raise IllegalName(path, f"the path is longer than {MAX_PATH_BYTES} bytes")
    components = tuple(path.split(b"/"))
    if len(components) > MAX_DEPTH:
        raise IllegalName(path, f"the path is deeper than {MAX_DEPTH} levels")
    for name in components:
        check_name(name)
    return components


def join(path: RepoPath) -> bytes:
    return b"/".join(path)


_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\\\")


def to_text(name: bytes) -> str:
    """The documented, reversible spelling of a name or path in JSON.

    UTF-8 is shown as it is. A name with a byte that is not UTF-8 has that byte as ``\\xNN`` and, in
    such a name only, each backslash doubled; so does a name whose plain form would read as escaped.
    """
    try:
        text = name.decode()
    except UnicodeDecodeError:
        escaped = name.replace(b"\\", b"\\\\").decode("utf-8", "surrogateescape")
        return "".join(
            f"\\x{ord(char) - 0xDC00:02x}" if 0xDC80 <= ord(char) <= 0xDCFF else char
            for char in escaped
        )
    return text.replace("\\", "\\\\") if _reads_as_escaped(text) else text


def from_text(text: str) -> bytes:
    """The bytes that :func:`to_text` spelled; lone surrogates are refused."""
    try:
        plain = text.encode()
    except UnicodeEncodeError:
        raise Invalid("path holds a lone surrogate", hint="write other bytes as \\xNN") from None
    if not _reads_as_escaped(text):
        return plain
    out = bytearray()
    at = 0
    for match in _ESCAPE.finditer(text):
        out += text[at : match.start()].encode()
        out += bytes([int(match[1], 16)]) if match[1] else b"\\"
        at = match.end()
    out += text[at:].encode()
    return bytes(out)


def _reads_as_escaped(text: str) -> bool:
    """Whether a text must be read with escapes: it holds ``\\xNN`` of a byte above 0x7f, or ``\\\\``."""
    if "\\" not in text:
        return False
    return "\\\\" in text or re.search(r"\\x[89a-f][0-9a-f]", text) is not None
