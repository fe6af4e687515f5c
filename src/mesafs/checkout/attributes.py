"""What a checkout remembers of published paths that git does not: inode number, mode and time.

An unedited file shows the time at which this checkout first saw its content; a file edited here keeps
its own nanoseconds, its permission bits and its inode number through publish. Without this, ``make``
and ``git status`` would see the world as new after every publish.

Stored as a log of lines that is rewritten at start when most of it is out of date. Losing its tail
costs times, never content, so it is not flushed by itself.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass

from mesafs.base.files import Files


@dataclass(frozen=True, slots=True)
class Remembered:
    """Attributes of one path; time and mode hold for the content ``oid`` only (empty: a directory)."""

    ino: int
    mode: int
    mtime_ns: int
    oid: bytes


class Attributes:
    """The table and its log. Guarded by the checkout's lock."""

    def __init__(self, path: str, *, files: Files) -> None:
        self._path = path
        self._files = files
        #: By directory and name, so that a rename touches only what moves.
        self._table: dict[bytes, dict[bytes, Remembered]] = {}
        lines = self._read()
        if lines > 2 * sum(map(len, self._table.values())) + 1000:
            self._rewrite()
        self._fd = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )

    def __bool__(self) -> bool:
        return bool(self._table)

    def get(self, path: bytes) -> Remembered | None:
        directory, _, name = path.rpartition(b"/")
        names = self._table.get(directory)
        return None if names is None else names.get(name)

    def remember(self, entries: dict[bytes, Remembered | None]) -> None:
        """Set or (None) forget paths."""
        if not entries:
            return
        for path, entry in entries.items():
            self._set(path, entry)
        data = b"".join(_line(path, entry) for path, entry in entries.items())
        self._files.append("attributes.append", self._fd, data)

    def move(self, old: bytes, new: bytes, *, directory: bool) -> None:
        """Follow the rename of a file or directory."""
        entry = self.get(old)
        moved = {} if entry is None else {old: entry}
        if directory:
            below = old + b"/"
            for place, names in self._table.items():
                if place == old or place.startswith(below):
                    moved |= {place + b"/" + name: each for name, each in names.items()}
        if moved:
            self.remember(dict.fromkeys(moved))
            self.remember({new + path[len(old) :]: each for path, each in moved.items()})

    def close(self) -> None:
        os.close(self._fd)

    def _set(self, path: bytes, entry: Remembered | None) -> None:
        directory, _, name = path.rpartition(b"/")
        if entry is not None:
            self._table.setdefault(directory, {})[name] = entry
        elif (names := self._table.get(directory)) is not None:
            names.pop(name, None)
            if not names:
                del self._table[directory]

    def _read(self) -> int:
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return 0
        lines = data.split(b"\0\n")
        for line in lines:
            crc, _, rest = line.partition(b" ")
            fields = rest.split(b"\0")
            if not crc.isdigit() or int(crc) != zlib.crc32(rest):
                continue
            if len(fields) == 1:
                self._set(fields[0], None)
            else:
                ino, mode, mtime_ns = map(int, fields[1:4])
                oid = bytes.fromhex(fields[4].decode())
                self._set(fields[0], Remembered(ino, mode, mtime_ns, oid))
        return len(lines)

    def _rewrite(self) -> None:
        staged = f"{self._path}.new"
        data = b"".join(
            _line(directory + b"/" + name if directory else name, entry)
            for directory, names in self._table.items()
            for name, entry in names.items()
        )
        self._files.write("attributes.stage", staged, data)
        self._files.rename("attributes.publish", staged, self._path)


def _line(path: bytes, entry: Remembered | None) -> bytes:
    if entry is None:
        rest = path
    else:
        rest = b"%s\0%d\0%d\0%d\0%s" % (
            path,
            entry.ino,
            entry.mode,
            entry.mtime_ns,
            entry.oid.hex().encode(),
        )
    return b"%d %s\0\n" % (zlib.crc32(rest), rest)
