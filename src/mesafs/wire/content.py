"""Files, symbolic links and directories as ``GET …/content`` answers them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mesafs.wire.shapes import OMITTED, Shape


class _Typed:
    """The questions that the published SDK answers on every result."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def type(self) -> str: ...

    @property
    def type_(self) -> str:
        return self.type

    def is_file(self) -> bool:
        return self.type == "file"

    def is_dir(self) -> bool:
        return self.type == "dir"

    def is_symlink(self) -> bool:
        return self.type == "symlink"


@dataclass(frozen=True, slots=True)
class FileContent(_Typed, Shape):
    """``content`` is base64 of the bytes, ``sha`` the id of the blob."""

    name: str
    path: str
    sha: str
    size: int
    content: str
    mode: Literal["100644", "100755"]
    encoding: Literal["base64"] = "base64"
    type: Literal["file"] = "file"
    is_conflicted: bool | None = field(default=None, metadata=OMITTED)
    metadata: dict[str, str] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class SymlinkContent(_Typed, Shape):
    """``content`` is base64 of the target's text."""

    name: str
    path: str
    sha: str
    size: int
    content: str
    mode: Literal["120000"] = "120000"
    encoding: Literal["base64"] = "base64"
    type: Literal["symlink"] = "symlink"
    is_conflicted: bool | None = field(default=None, metadata=OMITTED)
    metadata: dict[str, str] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class FileEntry(_Typed, Shape):
    name: str
    path: str
    sha: str
    size: int
    mode: str
    type: Literal["file"] = "file"
    metadata: dict[str, str] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class SymlinkEntry(_Typed, Shape):
    name: str
    path: str
    sha: str
    size: int
    mode: str = "120000"
    type: Literal["symlink"] = "symlink"
    metadata: dict[str, str] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class DirectoryEntry(_Typed, Shape):
    name: str
    path: str
    sha: str
    type: Literal["dir"] = "dir"
    metadata: dict[str, str] | None = field(default=None, metadata=OMITTED)


Entry = FileEntry | SymlinkEntry | DirectoryEntry


@dataclass(frozen=True, slots=True)
class DirectoryContent(_Typed, Shape):
    """``entries`` below the first level follow flat, each with its full path."""

    name: str
    path: str
    sha: str
    child_count: int
    entries: tuple[FileEntry | SymlinkEntry | DirectoryEntry, ...]
    type: Literal["dir"] = "dir"
    metadata: dict[str, str] | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, slots=True)
class ContentAnswer(Shape):
    """Reads whichever of the three a content request was answered with."""

    answer: FileContent | SymlinkContent | DirectoryContent


Content = FileContent | SymlinkContent | DirectoryContent


def content_from_json(data: object) -> Content:
    return ContentAnswer.from_json({"answer": data}).answer
