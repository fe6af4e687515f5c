"""Taking a pack from a client: nothing of it is visible before all of it has been judged.

The pack goes into quarantine, where git checks it strictly (``index-pack --strict``: hashes, formats,
and that every object it refers to is in the pack or in this repository), and then we do: only blobs
and trees, every name through :mod:`mesafs.model.paths`, only modes that may be written, order and
uniqueness of entries, symlink targets that a filesystem can hold. Invariant: the objects of a
repository are closed, for a pack that refers to something absent is refused.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn

import pygit2

from mesafs.base.errors import Conflict, Invalid
from mesafs.base.files import Files
from mesafs.git.children import command, environment
from mesafs.git.objects import parse_tree, sort_key
from mesafs.git.pack_index import ids_in
from mesafs.git.repository import ObjectStore, Quarantine
from mesafs.model.ids import BlobId, TreeId
from mesafs.model.objects import MODE_SYMLINK, MODE_TREE, WRITABLE_MODES, TreeEntry
from mesafs.model.paths import check_name, to_text

MAX_PACK_BYTES = 32 << 20
#: What PATH_MAX leaves for a target.
MAX_SYMLINK_BYTES = 4095
#: A pack of 32 MiB may say that it unpacks to anything; beyond this in one object it is an attack.
MAX_OBJECT_BYTES = 2 << 30

_ONE_OBJECT = b"PACK\0\0\0\x02\0\0\0\x01"
_NAME = re.compile(rb"[0-9a-f]{40}")
_MISSING = re.compile(r"did not receive expected object ([0-9a-f]{40})")


class BadPack(Invalid):
    """The bytes are not a pack that may come in."""

    default_code: ClassVar[str | None] = "INVALID_PACK"


class PackTooLarge(BadPack):
    """More bytes than one pack may have."""

    default_code: ClassVar[str | None] = "PACK_TOO_LARGE"


class IllegalTree(BadPack):
    """A tree that no repository may hold."""

    default_code: ClassVar[str | None] = "INVALID_TREE"


class MissingObjects(Conflict):
    """Something refers to objects that this repository does not have."""

    default_code: ClassVar[str | None] = "MISSING_OBJECTS"

    def __init__(self, missing: Iterable[bytes]) -> None:
        self.missing = tuple(sorted(missing))
        super().__init__(
            f"{len(self.missing)} objects are not in this repository",
            hint="send them in a pack first; a pack may refer only to what it brings or what is there",
        )

    @property
    def details(self) -> dict[str, object]:
        return {"missing": [oid.hex() for oid in self.missing]}


@dataclass(frozen=True, slots=True)
class ReceivedPack:
    """A pack that is stored and flushed."""

    name: str
    object_ids: tuple[bytes, ...]
    size_bytes: int


def receive(store: ObjectStore, chunks: Iterable[bytes], files: Files) -> ReceivedPack:
    """Check a pack that arrives in ``chunks`` and store it. The same pack again changes nothing.

    When it returns, the pack and its name would survive a power cut.
    """
    with Quarantine(store.path) as folder:
        (folder / "pack").mkdir()
        name, size = _index(store.path, folder, _limited(chunks))
        pack, index = (folder / "pack" / f"pack-{name}{suffix}" for suffix in (".pack", ".idx"))
        if pack.stat().st_size != size:
            raise BadPack("more bytes follow the pack", hint="send one pack in one request")
        ids = ids_in(index.read_bytes())
        _judge(folder, ids, store)
        for path in (pack, index):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                files.sync("pack.sync", fd)
            finally:
                os.close(fd)
        if ids:
            store.take_in(pack, index, name)
    return ReceivedPack(name, tuple(ids), size)


def _limited(chunks: Iterable[bytes]) -> Iterator[bytes]:
    total, limit = 0, MAX_PACK_BYTES
    for chunk in chunks:
        if total == 0 and chunk[:12] == _ONE_OBJECT:
            limit = MAX_OBJECT_BYTES  # a large file has nowhere else to go
        total += len(chunk)
        if total > limit:
            raise PackTooLarge(
                f"the pack is larger than {limit >> 20} MiB",
                hint="send the objects in several packs, blobs before the trees that name them",
            )
        yield chunk


def _index(repository: Path, folder: Path, chunks: Iterable[bytes]) -> tuple[str, int]:
    """Let git index and check the pack into ``folder``; its links may go to the repository."""
    child = subprocess.Popen(
        command(
            repository,
            "-c",
            f"core.bigFileThreshold={MAX_OBJECT_BYTES}",
            "index-pack",
            "--stdin",
            "--strict",
            "--fsck-objects",
            f"--max-input-size={MAX_OBJECT_BYTES}",
            "--threads=1",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(
            GIT_OBJECT_DIRECTORY=str(folder),
            GIT_ALTERNATE_OBJECT_DIRECTORIES=str(repository / "objects"),
        ),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    said: list[bytes] = []
    # Read aside, for a child that complains at length while we still write would wait for ever.
    listener = threading.Thread(
        target=lambda stream: said.append(stream.read()), args=(child.stderr,)
    )
    listener.start()
    size = 0
    try:
        try:
            for chunk in chunks:
                child.stdin.write(chunk)
                size += len(chunk)
            child.stdin.close()
        except BrokenPipeError:
            pass  # it has said why on stderr
        except BaseException:
            child.kill()
            raise
        output = child.stdout.read()
        status = child.wait()
    finally:
        listener.join()
        for stream in (child.stdin, child.stdout, child.stderr):
            try:
                stream.close()
            except BrokenPipeError:
                continue
        child.wait()
    if status != 0:
        _refuse(b"".join(said).decode("utf-8", "replace"))
    named = _NAME.search(output)
    if named is None:
        raise BadPack("git did not name the pack it indexed")
    return named[0].decode(), size


def _refuse(words: str) -> NoReturn:
    missing = _MISSING.findall(words)
    if missing:
        raise MissingObjects(bytes.fromhex(oid) for oid in missing)
    lines = words.strip().splitlines() or ["git refused it without a word"]
    reason = next((line for line in lines if line.startswith("error: ")), lines[-1])
    raise BadPack(
        f"the pack was refused: {reason.removeprefix('fatal: ')[:300]}",
        hint="send whole objects, in git's formats and in git's order",
    )


def _judge(folder: Path, ids: list[bytes], store: ObjectStore) -> None:
    incoming = pygit2.Odb(str(folder))
    links: set[bytes] = set()
    for oid in ids:
        kind, size = incoming.read_header(pygit2.Oid(raw=oid))
        if kind == pygit2.enums.ObjectType.TREE:
            entries = parse_tree(bytes(incoming.read(pygit2.Oid(raw=oid))[1]))
            check_tree(TreeId(oid), entries)
            links |= {entry.id for entry in entries if entry.mode == MODE_SYMLINK}
        elif kind != pygit2.enums.ObjectType.BLOB:
            raise BadPack("the pack holds a commit or a tag; the server makes those itself")
        elif size > MAX_OBJECT_BYTES:
            raise BadPack(f"blob {oid.hex()} is larger than {MAX_OBJECT_BYTES >> 30} GiB")
    for oid in links:
        check_symlink_target(_target(store, incoming, oid))


def _target(store: ObjectStore, incoming: pygit2.Odb, oid: bytes) -> bytes:
    """A target that the pack brings, or that lies here already: it may have been a file until now."""
    try:
        return bytes(incoming.read(pygit2.Oid(raw=oid))[1])
    except KeyError:
        return store.blob(BlobId(oid))


def check_tree(tree: TreeId, entries: list[TreeEntry]) -> None:
    """Refuse a tree that git would misread or that holds what no repository may."""
    names: set[bytes] = set()
    previous: bytes | None = None
    for entry in entries:
        check_name(entry.name)
        if entry.mode not in WRITABLE_MODES:
            raise IllegalTree(
                f"{to_text(entry.name)!r} in tree {tree.hex()} has the mode {entry.mode:o}",
                hint="modes are 040000, 100644, 100755 and 120000",
            )
        if entry.name in names:
            raise IllegalTree(f"{to_text(entry.name)!r} is twice in tree {tree.hex()}")
        key = sort_key(entry)
        if previous is not None and key <= previous:
            raise IllegalTree(f"the entries of tree {tree.hex()} are not in git's order")
        names.add(entry.name)
        previous = key
        if entry.mode == MODE_TREE and entry.id == bytes(20):
            raise IllegalTree(f"tree {tree.hex()} names no object")


def check_symlink_target(target: bytes) -> None:
    """Refuse a target that no filesystem could hold."""
    if not target or len(target) > MAX_SYMLINK_BYTES or b"\0" in target:
        raise IllegalTree(
            "a symlink's target is empty, too long or holds NUL",
            hint=f"a target is 1 to {MAX_SYMLINK_BYTES} bytes without NUL",
        )
