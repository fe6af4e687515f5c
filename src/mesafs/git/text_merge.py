"""Three-way merge of text by libgit2, as regions instead of a text with markers.

libgit2 only offers a marked text. The markers it writes here are longer than any run of marker
characters in the three inputs, so that reading the regions back out cannot be mistaken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pygit2
from pygit2.ffi import C, ffi

#: git's own rule for what is not text: NUL among the first bytes.
BINARY_PROBE_BYTES = 8000
#: Beyond this a file is merged as a whole: line merging takes time and memory by its size.
MAX_TEXT_BYTES = 16 << 20
_STYLE_DIFF3 = 2
_RUNS = re.compile(rb"<+|=+|>+|\|+")


@dataclass(frozen=True, slots=True)
class Region:
    """Three versions of one stretch of a file that could not be merged."""

    ours: bytes
    base: bytes
    theirs: bytes


Regions = list[bytes | Region]
"""A merged file in order: text where it merged, a :class:`Region` where it did not."""


def is_text(content: bytes) -> bool:
    """Whether line-by-line work makes sense on it."""
    return len(content) <= MAX_TEXT_BYTES and b"\0" not in content[:BINARY_PROBE_BYTES]


def merge_text(base: bytes, ours: bytes, theirs: bytes) -> Regions:
    """Merge by line; the outcome is clean when every region is bytes."""
    marker_length = 1 + max(
        (len(run) for text in (base, ours, theirs) for run in _RUNS.findall(text)), default=0
    )
    marker_length = max(marker_length, 7)
    if marker_length > 60_000:
        return [Region(ours, base, theirs)]  # the library's marker size is sixteen bits
    clean, marked = _merge_file(base, ours, theirs, marker_length)
    if clean:
        return [marked] if marked else []
    return _without_added_newline(_regions(marked, marker_length), base, ours, theirs)


def _merge_file(base: bytes, ours: bytes, theirs: bytes, marker_length: int) -> tuple[bool, bytes]:
    held = _Held()
    odb = pygit2.Odb()
    odb.add_backend(held, 1)
    repository = pygit2.Repository()
    repository.set_odb(odb)
    entries = [
        pygit2.IndexEntry("x", held.add(content), pygit2.enums.FileMode.BLOB)._to_c()  # noqa: SLF001 - pygit2 has no public form that takes a style and keeps bytes
        for content in (base, ours, theirs)
    ]
    options = ffi.new("git_merge_file_options *")
    options.version = 1
    options.flags = _STYLE_DIFF3
    options.marker_size = marker_length
    result = ffi.new("git_merge_file_result *")
    handle = repository._repo  # noqa: SLF001 - as above
    status = C.git_merge_file_from_index(
        result, handle, entries[0][0], entries[1][0], entries[2][0], options
    )
    pygit2.errors.check_error(status)
    try:
        return bool(result.automergeable), bytes(ffi.buffer(result.ptr, result.len)[:])
    finally:
        C.git_merge_file_result_free(result)


def _regions(marked: bytes, marker_length: int) -> Regions:
    opening, middle, closing = (
        re.compile(rb"^" + re.escape(sign * marker_length) + rb"(?: [^\n]*)?\r?\n?", re.MULTILINE)
        for sign in (b"<", b"=", b">")
    )
    ancestor = re.compile(
        rb"^" + re.escape(b"|" * marker_length) + rb"(?: [^\n]*)?\r?\n?", re.MULTILINE
    )
    out: Regions = []
    at = 0
    while (start := opening.search(marked, at)) is not None:
        if start.start() > at:
            out.append(marked[at : start.start()])
        first = ancestor.search(marked, start.end())
        assert first is not None, "diff3 style writes the base"
        second = middle.search(marked, first.end())
        assert second is not None, "a conflict has two sides"
        end = closing.search(marked, second.end())
        assert end is not None, "a conflict ends"
        out.append(
            Region(
                marked[start.end() : first.start()],
                marked[first.end() : second.start()],
                marked[second.end() : end.start()],
            )
        )
        at = end.end()
    if at < len(marked):
        out.append(marked[at:])
    return out


def _without_added_newline(regions: Regions, base: bytes, ours: bytes, theirs: bytes) -> Regions:
    """Take back the newline that libgit2 puts before a marker where a version ends without one."""
    last = regions[-1]
    if isinstance(last, Region):
        regions[-1] = Region(
            _as_in(last.ours, ours), _as_in(last.base, base), _as_in(last.theirs, theirs)
        )
    return regions


def _as_in(section: bytes, whole: bytes) -> bytes:
    if not section or whole.endswith(b"\n"):
        return section
    shorter = section.removesuffix(b"\n")
    return shorter if whole.endswith(shorter) else shorter.removesuffix(b"\r")


class _Held(pygit2.OdbBackend):
    """The three blobs of one merge, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[pygit2.Oid, bytes] = {}

    def add(self, content: bytes) -> pygit2.Oid:
        oid = pygit2.hash(content)
        self._held[oid] = content
        return oid

    def read_cb(self, oid: pygit2.Oid) -> tuple[int, bytes]:
        return pygit2.enums.ObjectType.BLOB, self._held[oid]

    def read_header_cb(self, oid: pygit2.Oid) -> tuple[int, int]:
        return pygit2.enums.ObjectType.BLOB, len(self._held[oid])

    def exists_cb(self, oid: pygit2.Oid) -> bool:
        return oid in self._held

    def refresh_cb(self) -> None:
        return None
