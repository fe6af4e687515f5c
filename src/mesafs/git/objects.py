"""Git's object formats in pure Python: hash a blob, read and write trees and commits.

Sources: gitformat-pack(5), ``tree.c`` for the order of entries. The ``change-id`` header is
Jujutsu's (docs/technical of that project, since 0.28).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1

from mesafs.base.errors import Corrupt
from mesafs.model.ids import BlobId, CommitId, TreeId
from mesafs.model.objects import MODE_TREE, Commit, Signature, TreeEntry


class MalformedObject(Corrupt):
    """Bytes that are not the git object they should be."""


def object_id(kind: bytes, content: bytes | memoryview) -> bytes:
    """Git's name for an object: SHA-1 over ``kind length NUL content``."""
    digest = sha1(b"%s %d\0" % (kind, len(content)), usedforsecurity=False)
    digest.update(content)
    return digest.digest()


def blob_id(content: bytes | memoryview) -> BlobId:
    return BlobId(object_id(b"blob", content))


def sort_key(entry: TreeEntry) -> bytes:
    """Git orders a tree's entries by name, a directory as if its name ended in a slash."""
    return entry.name + b"/" if entry.mode == MODE_TREE else entry.name


def serialise_tree(entries: Iterable[TreeEntry]) -> bytes:
    """The content of a tree object; entries are put into git's order."""
    return b"".join(
        b"%o %s\0%s" % (entry.mode, entry.name, entry.id) for entry in sorted(entries, key=sort_key)
    )


def tree_id(content: bytes) -> TreeId:
    return TreeId(object_id(b"tree", content))


def parse_tree(content: bytes) -> list[TreeEntry]:
    """The entries of a tree object, in their order; names are *not* checked here."""
    entries: list[TreeEntry] = []
    at, end = 0, len(content)
    while at < end:
        space = content.find(b" ", at)
        zero = content.find(b"\0", space)
        if space < 0 or zero < 0 or zero + 21 > end:
            raise MalformedObject("a tree object ends in the middle of an entry")
        try:
            mode = int(content[at:space], 8)
        except ValueError:
            raise MalformedObject("a tree entry has a mode that is not octal") from None
        entries.append(TreeEntry(mode, content[space + 1 : zero], content[zero + 1 : zero + 21]))
        at = zero + 21
    return entries


def serialise_commit(commit: Commit) -> bytes:
    """The content of a commit object, with the ``change-id`` header where Jujutsu writes it."""
    lines = [b"tree " + commit.tree.hex().encode()]
    lines += [b"parent " + parent.hex().encode() for parent in commit.parents]
    lines.append(b"author " + signature_line(commit.author))
    lines.append(b"committer " + signature_line(commit.committer))
    lines += [key + b" " + value.replace(b"\n", b"\n ") for key, value in commit.extra]
    if commit.change_id is not None:
        lines.append(b"change-id " + commit.change_id.encode())
    return b"\n".join(lines) + b"\n\n" + commit.message.encode()


def commit_id(content: bytes) -> CommitId:
    return CommitId(object_id(b"commit", content))


def signature_line(who: Signature) -> bytes:
    sign = "-" if who.offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(who.offset_minutes), 60)
    return f"{who.name} <{who.email}> {who.seconds} {sign}{hours:02d}{minutes:02d}".encode()
