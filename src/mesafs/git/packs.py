"""Writing a git pack in pure Python: whole objects, no deltas.

Source: gitformat-pack(5). A pack is streamed to a file as objects are added, so memory stays flat;
the header's object count is filled in at the end, and the trailing checksum is computed over the
finished file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from hashlib import sha1
from typing import BinaryIO, Final

OBJECT_COMMIT: Final = 1
OBJECT_TREE: Final = 2
OBJECT_BLOB: Final = 3

_HEADER = struct.Struct(">4sII")
_COPY_BYTES = 1 << 20


class PackWriter:
    """Collects objects into a pack on ``file``, which must be open for reading and writing.

    Adding the same id twice keeps one. ``finish`` completes header and trailer; until then the file
    is not a pack.
    """

    def __init__(self, file: BinaryIO, *, compression: int = 1) -> None:
        self._file = file
        self._compression = compression
        self._ids: set[bytes] = set()
        #: Id, offset and CRC-32 of each object's record, in the order added: what an index needs.
        self.records: list[tuple[bytes, int, int]] = []
        file.write(_HEADER.pack(b"PACK", 2, 0))
        self.size_bytes = _HEADER.size

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, object_id: bytes) -> bool:
        return object_id in self._ids

    def add(self, kind: int, object_id: bytes, content: bytes | memoryview) -> None:
        """Add an object whose id the caller has computed over ``content``."""
        if object_id in self._ids:
            return
        self._ids.add(object_id)
        record = _entry_header(kind, len(content)) + zlib.compress(content, self._compression)
        self.records.append((object_id, self.size_bytes, zlib.crc32(record)))
        self._file.write(record)
        self.size_bytes += len(record)

    def add_stream(
        self, kind: int, object_id: bytes, size: int, read: Callable[[int], bytes]
    ) -> None:
        """Add a large object piece by piece. ``read(n)`` gives its ``size`` bytes, none at the end."""
        if object_id in self._ids:
            return
        self._ids.add(object_id)
        before = self._file.tell()
        self._file.write(_entry_header(kind, size))
        deflate = zlib.compressobj(self._compression)
        while size > 0 and (chunk := read(min(size, _COPY_BYTES))):
            self._file.write(deflate.compress(chunk))
            size -= len(chunk)
        self._file.write(deflate.flush())
        self.size_bytes += self._file.tell() - before

    def finish(self) -> bytes:
        """Complete the pack and return its checksum; the file is left at its end."""
        file = self._file
        file.seek(0)
        file.write(_HEADER.pack(b"PACK", 2, len(self._ids)))
        file.seek(0)
        digest = sha1(usedforsecurity=False)
        while chunk := file.read(_COPY_BYTES):
            digest.update(chunk)
        file.write(digest.digest())
        file.flush()
        self.size_bytes += 20
        return digest.digest()


def _entry_header(kind: int, size: int) -> bytes:
    """Type and size: four bits of size in the first byte, seven in each that follows."""
    byte = kind << 4 | size & 15
    size >>= 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    out.append(byte)
    return bytes(out)
