"""Many packs become few, and no object is ever without a pack."""

from __future__ import annotations

import threading
from pathlib import Path

from mesafs.base.files import Files
from mesafs.git.children import run
from mesafs.git.repacking import GRACE_NS, TOO_MANY_PACKS, needs_repacking, repack, sweep
from mesafs.git.repository import ObjectStore
from mesafs.model.ids import BlobId
from mesafs.store.objects import Draft


class Clock:
    def __init__(self) -> None:
        self.ns = 1_800_000_000_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def monotonic(self) -> float:
        return self.ns / 1e9

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.is_set()


def write_packs(store: ObjectStore, count: int, *, start: int = 0) -> list[BlobId]:
    blobs = []
    for number in range(start, start + count):
        draft = Draft(store)
        blobs.append(draft.add_blob(b"content %d" % number))
        store.write(draft)
    return blobs


def packs(store: ObjectStore) -> int:
    return len(list((store.path / "objects" / "pack").glob("*.pack")))


def test_packs_are_gathered_and_the_old_ones_go_after_a_while(tmp_path: Path) -> None:
    store, clock = ObjectStore.create(tmp_path / "r.git", Files()), Clock()
    blobs = write_packs(store, TOO_MANY_PACKS)
    assert needs_repacking(store.path)
    assert [store.blob(blob) for blob in blobs[:5]]

    marked = repack(store.path, Files(), clock)
    early = sweep(store.path, Files(), clock)

    assert (marked, early, packs(store)) == (TOO_MANY_PACKS, 0, TOO_MANY_PACKS + 1)
    assert not needs_repacking(store.path)
    clock.ns += GRACE_NS
    assert sweep(store.path, Files(), clock) == TOO_MANY_PACKS
    assert packs(store) == 1
    # The handle that was open all the time, and git, still find everything.
    assert [store.blob(blob) for blob in blobs] == [b"content %d" % n for n in range(len(blobs))]
    assert run(store.path, ["fsck", "--full", "--no-dangling"]) == b""


def test_a_pack_whose_replacement_is_gone_is_kept(tmp_path: Path) -> None:
    store, clock = ObjectStore.create(tmp_path / "r.git", Files()), Clock()
    blobs = write_packs(store, 4)
    repack(store.path, Files(), clock)
    folder = store.path / "objects" / "pack"
    larger = max(folder.glob("*.pack"), key=lambda pack: pack.stat().st_size)
    larger.unlink()
    larger.with_suffix(".idx").unlink()
    clock.ns += GRACE_NS

    assert sweep(store.path, Files(), clock) == 0
    assert [ObjectStore(store.path, Files()).blob(blob) for blob in blobs]


def test_rounds_of_writing_and_gathering_keep_the_number_small(tmp_path: Path) -> None:
    store, clock = ObjectStore.create(tmp_path / "r.git", Files()), Clock()
    blobs: list[BlobId] = []
    for _ in range(6):
        blobs += write_packs(store, 60, start=len(blobs))
        repack(store.path, Files(), clock)
        clock.ns += GRACE_NS
        sweep(store.path, Files(), clock)

    assert packs(store) < 10
    assert len(blobs) == len({store.blob(blob) for blob in blobs})
