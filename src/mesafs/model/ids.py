"""A type for each kind of identifier, so that one cannot be passed as another.

Object ids are git's: 20 raw bytes in memory, 40 hexadecimal digits in text. Change ids are
Jujutsu's: 16 raw bytes, written in "reverse hex", where nibble ``n`` is the letter ``'z' - n``.
"""

from __future__ import annotations

import hashlib
from typing import NewType

from mesafs.base.errors import Invalid

BlobId = NewType("BlobId", bytes)
TreeId = NewType("TreeId", bytes)
CommitId = NewType("CommitId", bytes)
#: 32 letters of ``k``..``z``.
ChangeId = NewType("ChangeId", str)
RepositoryId = NewType("RepositoryId", str)
OrganisationId = NewType("OrganisationId", str)
ApiKeyId = NewType("ApiKeyId", str)
CheckoutId = NewType("CheckoutId", str)
PublishId = NewType("PublishId", str)

#: The virtual root: parent of first changes, named by every bookmark of an empty repository.
ROOT_CHANGE = ChangeId("z" * 32)
ROOT_COMMIT = CommitId(bytes(20))
EMPTY_TREE = TreeId(bytes.fromhex("4b825dc642cb6eb9a060e54bf8d69288fbee4904"))
EMPTY_BLOB = BlobId(bytes.fromhex("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"))

_LETTERS = "zyxwvutsrqponmlk"
_TO_REVERSE = str.maketrans("0123456789abcdef", _LETTERS)
_FROM_REVERSE = str.maketrans(_LETTERS, "0123456789abcdef")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def change_id_of(raw: bytes) -> ChangeId:
    """Write 16 bytes as a change id."""
    assert len(raw) == 16, "a change id is 16 bytes"
    return ChangeId(raw.hex().translate(_TO_REVERSE))


def change_id_bytes(change: ChangeId) -> bytes:
    """The 16 bytes that a change id stands for."""
    return bytes.fromhex(change.translate(_FROM_REVERSE))


def parse_change_id(text: str, *, field: str = "change_id") -> ChangeId:
    """Check a change id that came from outside; ``field`` is named when it is not one."""
    if len(text) != 32 or not set(text) <= set(_LETTERS):
        raise Invalid(f"{field} is not a change id", hint="a change id is 32 letters from k to z")
    return ChangeId(text)


def change_id_from_commit(commit: CommitId) -> ChangeId:
    """The id of a change whose commit brought none: equal on every server that imports the commit."""
    return change_id_of(hashlib.sha256(b"mesa change of " + commit).digest()[:16])


def parse_object_id(text: str, *, field: str) -> bytes:
    """Check 40 lower-case hexadecimal digits that came from outside."""
    if len(text) != 40 or not set(text) <= set("0123456789abcdef"):
        raise Invalid(f"{field} is not an object id", hint="an object id is 40 hexadecimal digits")
    return bytes.fromhex(text)


def ulid(now_ns: int, entropy: bytes) -> str:
    """26 Crockford characters that sort by time: 48 bits of milliseconds, 80 bits of ``entropy``."""
    assert len(entropy) == 10, "80 bits"
    number = (now_ns // 1_000_000) << 80 | int.from_bytes(entropy)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
