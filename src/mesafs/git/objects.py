"""Git's object formats in pure Python: hash a blob, read and write trees and commits.

Sources: gitformat-pack(5), ``tree.c`` for the order of entries. The ``change-id`` header is
Jujutsu's (docs/technical of that project, since 0.28).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1

from mesafs.base.errors import Corrupt, Invalid
from mesafs.model.ids import BlobId, CommitId, TreeId, parse_change_id
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


def parse_commit(content: bytes) -> Commit:
    """A commit object as a value. Text that is not UTF-8 is read with replacement characters."""
    head, _, message = content.partition(b"\n\n")
    headers: list[tuple[bytes, bytes]] = []
    for line in head.split(b"\n"):
        if line.startswith(b" ") and headers:
            key, value = headers[-1]
            headers[-1] = (key, value + b"\n" + line[1:])
        else:
            key, _, value = line.partition(b" ")
            headers.append((key, value))
    try:
        fields = dict(headers)
        change = fields.get(b"change-id")
        return Commit(
            tree=TreeId(bytes.fromhex(fields[b"tree"].decode())),
            parents=tuple(
                CommitId(bytes.fromhex(value.decode()))
                for key, value in headers
                if key == b"parent"
            ),
            author=_signature(fields[b"author"]),
            committer=_signature(fields[b"committer"]),
            message=message.decode("utf-8", "replace"),
            change_id=None
            if change is None
            else parse_change_id(change.decode("ascii", "replace")),
            extra=tuple((key, value) for key, value in headers if key not in _COMMIT_HEADERS),
        )
    except (KeyError, ValueError, Invalid):
        raise MalformedObject(
            "a commit object lacks a header or has one that is malformed"
        ) from None


_COMMIT_HEADERS = frozenset({b"tree", b"parent", b"author", b"committer", b"change-id"})


def _signature(line: bytes) -> Signature:
    who, _, when = line.rpartition(b"> ")
    name, _, email = who.partition(b"<")
    seconds, _, offset = when.decode().partition(" ")
    sign = -1 if offset.startswith("-") else 1
    zone = int(offset.lstrip("+-") or "0")
    minutes = sign * (zone // 100 * 60 + zone % 100)
    return Signature(
        name.decode("utf-8", "replace").strip(),
        email.decode("utf-8", "replace"),
        int(seconds),
        minutes,
    )
