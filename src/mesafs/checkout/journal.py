"""The ordered record of local edits since the last publish.

One file a *generation*: ``journal.<n>``. It begins with a header and a section that states the base
and what differs from it, closed by an end record; the edits made since follow, each appended with one
write(2) before the edit is acknowledged. A new generation is written beside the old one, which is
removed only after the new one is on stable storage: a crash in between leaves the old one, or both.

Every record is framed with its length, a number that rises by one, and a CRC over number and
payload. A tail that does not check is what a crash leaves and is cut off. A record that does not
check *with a good one after it* is damage: :class:`DamagedJournal`, and nothing is touched.

A payload is a kind and fields, separated by NUL, which no name holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from mesafs.base.errors import Conflict, Corrupt
from mesafs.base.files import Files

FORMAT = b"1"
_FRAME: Final = struct.Struct("<2sIQI")
_MAGIC: Final = b"mJ"
_MAX_PAYLOAD: Final = 1 << 24
_BALLAST_BYTES: Final = 256 << 10

HEADER = b"H"
BASE = b"B"
END = b"E"


class DamagedJournal(Corrupt):
    """A journal that is damaged before its end; it is kept as it is."""

    def __init__(self, path: str, offset: int) -> None:
        super().__init__(
            f"{path} is damaged at byte {offset}, with good records after it",
            hint="unsaved edits may be in it: keep the file, see `mesa doctor`, and mount with "
            "another MESA_STATE_DIR meanwhile",
        )
        self.path = path
        self.offset = offset


class ForeignJournal(Conflict):
    """A journal of another repository, another checkout, or a newer version of the program."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose edits a journal holds."""

    repository: bytes
    checkout: bytes


Record = list[bytes]


@dataclass(frozen=True, slots=True)
class SyncPoint:
    """A journal's file, and its directory while the file's name may not be durable yet."""

    fd: int
    directory: str | None
    files: Files

    def sync(self) -> None:
        """Flush and close. An error is final: nobody may take it for success later."""
        try:
            self.files.sync("journal.sync", self.fd)
            if self.directory is not None:
                self.files.sync_directory("journal.dirsync", self.directory)
        finally:
            os.close(self.fd)

    def close(self) -> None:
        """Give it up unflushed."""
        os.close(self.fd)


class Journal:
    """The current generation, open for appending. Not thread-safe: its checkout's lock guards it."""

    def __init__(self, directory: str, generation: int, fd: int, number: int, files: Files) -> None:
        self._directory = directory
        self._generation = generation
        self._fd = fd
        self._number = number
        self._files = files
        self._settled = False
        #: Frees space on the disk when it is full; returns how many bytes.
        self.relieve: Callable[[], int] = lambda: 0
        self.size_bytes = os.fstat(fd).st_size
        #: How much of it is the opening section: what a new generation would take again.
        self.opening_bytes = 0

    @property
    def number(self) -> int:
        """Number of the last record; rises with every edit."""
        return self._number

    @property
    def directory(self) -> str:
        return self._directory

    @property
    def path(self) -> str:
        return _path(self._directory, self._generation)

    def append(self, payload: bytes) -> None:
        """Record an edit; when this returns it survives the death of this process."""
        number = self._number + 1
        frame = _FRAME.pack(_MAGIC, len(payload), number, zlib.crc32(payload, number & 0xFFFFFFFF))
        try:
            self._files.append("journal.append", self._fd, frame + payload)
        except OSError as error:
            self._append_again(frame + payload, error)
        self._number = number
        self.size_bytes += len(frame) + len(payload)

    def _append_again(self, record: bytes, error: OSError) -> None:
        """Take back what a failed append left, free space, and try once more."""
        os.ftruncate(self._fd, self.size_bytes)
        if error.errno != errno.ENOSPC or not self.free_space():
            raise error
        try:
            self._files.append("journal.append", self._fd, record)
        except OSError:
            os.ftruncate(self._fd, self.size_bytes)
            raise

    def free_space(self) -> bool:
        """Free space on a full disk, the cache's first; whether there was any to free."""
        return bool(self.relieve()) or self._drop_ballast()

    def _drop_ballast(self) -> bool:
        """Give up the space that was kept for the edits that free space."""
        try:
            os.unlink(f"{self._directory}/ballast")
        except FileNotFoundError:
            return False
        return True

    def _make_ballast(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: the next settle tries again
            fd = os.open(
                f"{self._directory}/ballast",
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
            )
            try:
                os.posix_fallocate(fd, 0, _BALLAST_BYTES)
            except OSError:
                os.unlink(f"{self._directory}/ballast")
            finally:
                os.close(fd)

    def sync_point(self) -> SyncPoint:
        """What to flush, outside the lock, so that all records until now survive a power cut."""
        return SyncPoint(os.dup(self._fd), None if self._settled else self._directory, self._files)

    def close(self) -> None:
        os.close(self._fd)

    # -- generations ----------------------------------------------------------------------------

    @classmethod
    def begin(
        cls,
        directory: str,
        identity: Identity,
        state: Iterator[bytes],
        generation: int,
        files: Files,
    ) -> Journal:
        """Write a new generation that states ``state``; not yet on stable storage (see ``settle``)."""
        files.reached("journal.begin")
        path = _path(directory, generation)
        fd = os.open(
            path,
            os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
        )
        journal = cls(directory, generation, fd, 0, files)
        try:
            header = b"\0".join((HEADER, FORMAT, identity.repository, identity.checkout))
            frames = bytearray()
            for payload in (header, *state, END):
                number = journal._number = journal._number + 1
                crc = zlib.crc32(payload, number & 0xFFFFFFFF)
                frames += _FRAME.pack(_MAGIC, len(payload), number, crc) + payload
            files.append("journal.append", fd, bytes(frames))
            journal.size_bytes += len(frames)
            journal.opening_bytes = len(frames)
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
        return journal

    def next_generation(self, identity: Identity, state: Iterator[bytes]) -> Journal:
        """A successor that begins with ``state``. Edits go there from now on; then call ``settle``."""
        return Journal.begin(self._directory, identity, state, self._generation + 1, self._files)

    def settle(self) -> None:
        """Make this generation durable and only then remove older ones. Call outside the lock."""
        self._files.sync("journal.sync", self._fd)
        self._files.sync_directory("journal.dirsync", self._directory)
        self._settled = True
        self._make_ballast()
        for generation in _generations(self._directory):
            if generation < self._generation:
                self._files.unlink("journal.release", _path(self._directory, generation))


def open_journal(
    directory: str, identity: Identity, files: Files
) -> tuple[Journal, list[Record]] | None:
    """The newest whole generation, ready for appending, and its records without header.

    None where there is no journal. A newer generation without its end record is what a crash left
    while it was written, and is removed. A torn tail is cut off.
    """
    generations = _generations(directory)
    for generation in reversed(generations):
        path = _path(directory, generation)
        with open(path, "rb") as file:
            data = file.read()
        payloads, end = _scan(data, path)
        if END not in payloads:
            if generation == generations[0] > 1:
                if len(data) == 0 or not payloads:
                    raise DamagedJournal(path, 0)
                raise DamagedJournal(path, end)
            os.unlink(path)
            continue
        records = [payload.split(b"\0") for payload in payloads]
        _check_header(records[0], identity, path)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        if end < len(data):
            os.ftruncate(fd, end)
        return Journal(directory, generation, fd, len(payloads), files), records[1:]
    return None


def _scan(data: bytes, path: str) -> tuple[list[bytes], int]:
    """Payloads of all good records from the start, and where they end."""
    payloads: list[bytes] = []
    at = 0
    while (payload := _record_at(data, at, len(payloads) + 1)) is not None:
        payloads.append(payload)
        at += _FRAME.size + len(payload)
    if at < len(data) and _good_record_after(data, at + 1, len(payloads) + 1):
        raise DamagedJournal(path, at)
    return payloads, at


def _record_at(data: bytes, at: int, number: int | None) -> bytes | None:
    if at + _FRAME.size > len(data):
        return None
    magic, length, found, crc = _FRAME.unpack_from(data, at)
    if magic != _MAGIC or length > _MAX_PAYLOAD or (number is not None and found != number):
        return None
    payload = data[at + _FRAME.size : at + _FRAME.size + length]
    if len(payload) < length or zlib.crc32(payload, found & 0xFFFFFFFF) != crc:
        return None
    return payload


def _good_record_after(data: bytes, at: int, number: int) -> bool:
    """Whether any later record checks and continues the numbering: then the tear is no tail."""
    while (at := data.find(_MAGIC, at)) >= 0:
        if at + _FRAME.size <= len(data):
            found = _FRAME.unpack_from(data, at)[2]
            if (
                found > number
                and found - number < 1 << 32
                and _record_at(data, at, None) is not None
            ):
                return True
        at += 1
    return False


def _check_header(header: Record, identity: Identity, path: str) -> None:
    if header[0] != HEADER or len(header) != 4:
        raise DamagedJournal(path, 0)
    if header[1] != FORMAT:
        raise ForeignJournal(
            f"{path} was written by a newer version", hint="mount with that version of mesa"
        )
    if (header[2], header[3]) != (identity.repository, identity.checkout):
        raise ForeignJournal(
            f"{path} belongs to another checkout", hint="it is kept; use another MESA_STATE_DIR"
        )


def _generations(directory: str) -> list[int]:
    found = []
    for name in os.listdir(directory):
        stem, dot, number = name.partition(".")
        if stem == "journal" and dot and number.isdigit():
            found.append(int(number))
    return sorted(found)


def _path(directory: str, generation: int) -> str:
    return f"{directory}/journal.{generation}"
