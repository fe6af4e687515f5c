"""Writing and reading a pack's index, version 2, in pure Python.

Source: gitformat-pack(5). A server that made a pack itself knows where each object lies, so it needs
no second pass over the pack to index it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha1

from mesafs.base.errors import Corrupt

_MAGIC = b"\xfftOc\x00\x00\x00\x02"
_FANOUT = struct.Struct(">256I")
_LARGE = 1 << 31


def index_of(records: Iterable[tuple[bytes, int, int]], pack_checksum: bytes) -> bytes:
    """The ``.idx`` file for records of id, offset and CRC-32."""
    rows = sorted(records)
    fanout = [0] * 256
    for oid, _, _ in rows:
        fanout[oid[0]] += 1
    for at in range(1, 256):
        fanout[at] += fanout[at - 1]
    large = [offset for _, offset, _ in rows if offset >= _LARGE]
    small, next_large = [], 0
    for _, offset, _ in rows:
        if offset < _LARGE:
            small.append(offset)
        else:
            small.append(_LARGE | next_large)
            next_large += 1
    count = len(rows)
    body = b"".join(
        (
            _MAGIC,
            _FANOUT.pack(*fanout),
            *(oid for oid, _, _ in rows),
            struct.pack(f">{count}I", *(crc for _, _, crc in rows)),
            struct.pack(f">{count}I", *small),
            struct.pack(f">{len(large)}Q", *large),
            pack_checksum,
        )
    )
    return body + sha1(body, usedforsecurity=False).digest()


def ids_in(index: bytes) -> list[bytes]:
    """The object ids that an index file lists, in order."""
    if index[:8] != _MAGIC:
        raise Corrupt("a pack's index is not of version 2")
    count = _FANOUT.unpack_from(index, 8)[255]
    start = 8 + _FANOUT.size
    if len(index) < start + 28 * count + 40:
        raise Corrupt("a pack's index is shorter than its own count says")
    return [index[at : at + 20] for at in range(start, start + 20 * count, 20)]
