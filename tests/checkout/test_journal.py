"""What a journal brings back, and what it refuses to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mesafs.base.errors import MesaError
from mesafs.base.files import Files
from mesafs.checkout.journal import (
    DamagedJournal,
    ForeignJournal,
    Identity,
    Journal,
    open_journal,
)
from mesafs.checkout.nodes import Node
from mesafs.testing.bookmark import MemoryBookmark

Desk = Any

ME = Identity(b"repo", b"desk")
EDITS = [b"k\0d\0%d\0493" % 7, b"s\0d/l\0%d\0target" % 8, b"u\0d/l", b"m\0d\0e\0000"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a journal of a base and four edits."""
    journal = Journal.begin(str(tmp_path), ME, iter([b"B\0base"]), 1, Files())
    journal.settle()
    for edit in EDITS:
        journal.append(edit)
    journal.close()
    return tmp_path


def edits_in(folder: Path) -> list[bytes]:
    found = open_journal(str(folder), ME, Files())
    assert found is not None
    journal, records = found
    journal.close()
    return [b"\0".join(record) for record in records if record[0] not in (b"B", b"E")]


def record_starts(data: bytes) -> list[int]:
    return [at for at in range(len(data)) if data.startswith(b"mJ", at)]


def test_a_journal_torn_at_any_byte_of_its_last_records_keeps_all_before_it(folder: Path) -> None:
    path = folder / "journal.1"
    whole = path.read_bytes()
    starts = record_starts(whole)[-len(EDITS) :]

    for end in range(starts[0], len(whole) + 1):
        path.write_bytes(whole[:end])
        kept = sum(1 for start in [*starts[1:], len(whole)] if start <= end)
        assert edits_in(folder) == EDITS[:kept]
        assert path.read_bytes() == whole[: [*starts, len(whole)][kept]]


@pytest.mark.parametrize("zeros", [1, 17, 18, 100, 4096])
def test_a_tail_of_zeros_is_cut_off_and_appending_goes_on(folder: Path, zeros: int) -> None:
    path = folder / "journal.1"
    path.write_bytes(path.read_bytes() + bytes(zeros))

    found = open_journal(str(folder), ME, Files())
    assert found is not None
    found[0].append(b"u\0e")
    found[0].close()

    assert edits_in(folder) == [*EDITS, b"u\0e"]


def test_a_record_that_is_there_twice_counts_once(folder: Path) -> None:
    path = folder / "journal.1"
    data = path.read_bytes()
    path.write_bytes(data + data[record_starts(data)[-1] :])

    assert edits_in(folder) == EDITS


def test_a_flipped_bit_before_the_last_record_is_damage_and_the_file_is_kept(folder: Path) -> None:
    path = folder / "journal.1"
    whole = path.read_bytes()

    for at in range(record_starts(whole)[-1]):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedJournal) as refused:
            open_journal(str(folder), ME, Files())
        assert refused.value.hint is not None
        assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    "other", [Identity(b"other", b"desk"), Identity(b"repo", b"other")], ids=["repo", "checkout"]
)
def test_a_journal_of_another_is_refused_and_kept(folder: Path, other: Identity) -> None:
    whole = (folder / "journal.1").read_bytes()

    with pytest.raises(ForeignJournal):
        open_journal(str(folder), other, Files())

    assert (folder / "journal.1").read_bytes() == whole


def test_a_successor_that_was_not_finished_leaves_the_one_before_it(folder: Path) -> None:
    successor = folder / "journal.2"
    Journal.begin(str(folder), ME, iter([b"B\0base"]), 2, Files()).close()
    whole = successor.read_bytes()

    for end in range(len(whole)):
        successor.write_bytes(whole[:end])
        assert edits_in(folder) == EDITS
        assert not successor.exists()


def test_a_first_journal_that_was_never_finished_holds_nothing_and_stops_nobody(
    tmp_path: Path,
) -> None:
    Journal.begin(str(tmp_path), ME, iter([b"B\0base"]), 1, Files()).close()
    path = tmp_path / "journal.1"
    whole = path.read_bytes()

    for end in range(record_starts(whole)[-1]):
        path.write_bytes(whole[:end])
        assert open_journal(str(tmp_path), ME, Files()) is None
        assert not path.exists()


def all_nodes(node: Node) -> list[Node]:
    return [node, *(n for child in (node.children or {}).values() for n in all_nodes(child))]


def test_every_node_is_found_by_its_number_after_a_rename_over_a_published_file_and_death(
    desk: Desk,
) -> None:
    desk.write(b"a", b"1")
    desk.write(b"b", b"2")
    desk.publish_all()
    desk.rename(b"a", b"b")

    desk.die()

    assert desk.files() == {b"b": b"1"}
    for node in all_nodes(desk.checkout.root):
        assert desk.checkout.inodes.get(node.ino) is node


class Once:
    """A hook that fails the nth arrival at any step, once."""

    def __init__(self, nth: int, code: int) -> None:
        self._left = nth
        self._code = code
        self.failed_at: str | None = None

    def __call__(self, step: str) -> None:
        self._left -= 1
        if self._left == 0:
            self.failed_at = step
            raise OSError(self._code, os.strerror(self._code))


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("die", [False, True], ids=["lives", "dies"])
def test_each_step_failing_once_leaves_what_was_acknowledged_and_it_is_published_later(
    tmp_path: Path, make_desk: Callable[..., Desk], code: int, die: bool
) -> None:
    failed: set[str] = set()
    for nth in range(1, 1000):
        folder = tmp_path / f"bookmark-{nth}"
        folder.mkdir()
        bookmark = MemoryBookmark(folder)
        bookmark.edit({b"old": b"old\n", b"gone": b"gone\n", b"d/kept": b"kept\n"})
        fault = Once(nth, code)
        desk = make_desk(f"desk-{nth}", None, bookmark)
        desk.follow()
        desk.checkout.files._hook = desk.hook = fault
        model = {b"old": b"old\n", b"gone": b"gone\n", b"d/kept": b"kept\n"}

        _story(desk, model)
        if die:
            desk.hook = None
            desk.die()

        assert desk.files() == model, f"failed {fault.failed_at}, arrival {nth}"
        with suppress(OSError):
            desk.publish_all()
        desk.publish_all()
        assert bookmark.files() == model, f"failed {fault.failed_at}, arrival {nth}"
        desk.hook = None
        desk.die()
        assert desk.files() == model, f"failed {fault.failed_at}, arrival {nth}"
        if fault.failed_at is None:
            break
        failed.add(fault.failed_at)
    assert failed >= {
        "attributes.append",
        "cache.publish",
        "cache.stage",
        "journal.append",
        "journal.begin",
        "journal.dirsync",
        "journal.release",
        "journal.sync",
        "overlay.publish",
        "overlay.stage",
        "publish.ack",
        "publish.pack",
        "publish.send",
        "snapshot.tree",
    }


def _story(desk: Desk, model: dict[bytes, bytes]) -> None:
    """Edits of each kind; what fails has not happened, and the story goes on."""

    def attempt(call: Callable[[], object], *changes: tuple[bytes, bytes | None]) -> None:
        try:
            call()
        except (OSError, MesaError):
            return
        for path, content in changes:
            model.pop(path, None)
            if content is not None:
                model[path] = content

    def write(path: bytes, content: bytes) -> None:
        before = model.get(path)
        attempt(lambda: desk.write(path, content), (path, content))
        if model.get(path) == before and desk.node(path) is not None:
            model[path] = desk.read(path)  # opening it emptied or made it, then the close failed

    attempt(lambda: desk.mkdir(b"new"))
    if desk.node(b"new") is not None:
        write(b"new/a", b"1\n")
    write(b"old", b"changed\n")
    if b"d/kept" in model:
        attempt(
            lambda: desk.append(b"d/kept", b"more\n"), (b"d/kept", model[b"d/kept"] + b"more\n")
        )
    attempt(desk.publish)
    attempt(lambda: desk.unlink(b"gone"), (b"gone", None))
    if b"old" in model:
        attempt(
            lambda: desk.rename(b"old", b"d/moved"), (b"d/moved", model[b"old"]), (b"old", None)
        )
    write(b"d/kept", b"changed too\n")
    attempt(lambda: desk.symlink(b"l", b"d/kept"), (b"l", b"d/kept"))
    attempt(desk.publish)
    attempt(desk.publish)
