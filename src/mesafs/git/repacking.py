"""Keeps the number of packs of a repository small, without ever losing an object.

``git repack --geometric`` gathers small packs into larger ones and deletes nothing, for the
repositories are marked precious. Which packs have thereby become redundant is found by comparing
indexes, and those go only ``GRACE_NS`` later, so that whoever is reading one has long finished.
Invariant: a pack is removed only while another, flushed one holds every object of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mesafs.base.clock import Clock
from mesafs.base.files import Files
from mesafs.git.children import run
from mesafs.git.pack_index import ids_in

#: So many packs make rewriting worth while.
TOO_MANY_PACKS = 50
GRACE_NS = 600_000_000_000
#: Written beside a pack that another one has made redundant; its time says since when.
_MARK = ".redundant"


def needs_repacking(repository: Path) -> bool:
    """Whether there are many packs that are not waiting to be removed already."""
    packs = list(_packs(repository))
    waiting = sum(pack.with_suffix(_MARK).exists() for pack in packs)
    return len(packs) - waiting >= TOO_MANY_PACKS


def repack(repository: Path, files: Files, clock: Clock) -> int:
    """Gather small packs; returns how many have become redundant. They are still there."""
    before = set(_packs(repository))
    # -l leaves nothing out here, for there are no alternates; --no-write-bitmap-index as packs overlap.
    run(repository, ["repack", "--geometric=2", "-l", "--quiet", "--no-write-bitmap-index"])
    folder = repository / "objects" / "pack"
    files.sync_directory("repack.dirsync", folder)
    made = set(_packs(repository)) - before
    marked = 0
    for larger in made:
        held = set(ids_in(larger.with_suffix(".idx").read_bytes()))
        for pack in before:
            mark = pack.with_suffix(_MARK)
            if not mark.exists() and held.issuperset(ids_in(pack.with_suffix(".idx").read_bytes())):
                mark.write_bytes(b"%d %s\n" % (clock.now_ns(), larger.stem.encode()))
                marked += 1
    return marked


def sweep(repository: Path, files: Files, clock: Clock) -> int:
    """Remove packs that have been redundant for long enough; returns how many went."""
    removed = 0
    for mark in sorted((repository / "objects" / "pack").glob(f"*{_MARK}")):
        since, _, larger = mark.read_text("ascii").strip().partition(" ")
        pack, index = mark.with_suffix(".pack"), mark.with_suffix(".idx")
        if since.isdigit() and clock.now_ns() - int(since) < GRACE_NS:
            continue
        if since.isdigit() and _still_held(index, mark.with_name(f"{larger}.idx")):
            # The index first: without it nobody finds the pack.
            for gone in (index, mark.with_suffix(".rev"), pack):
                files.unlink("repack.remove", gone)
            removed += 1
        files.unlink("repack.unmark", mark)
    if removed:
        files.sync_directory("repack.dirsync", repository / "objects" / "pack")
    return removed


def _still_held(index: Path, larger: Path) -> bool:
    """The other pack may itself have been gathered and removed meanwhile."""
    if not index.exists() or not larger.exists() or not larger.with_suffix(".pack").exists():
        return False
    return set(ids_in(larger.read_bytes())).issuperset(ids_in(index.read_bytes()))


def _packs(repository: Path) -> Iterator[Path]:
    folder = repository / "objects" / "pack"
    return (index.with_suffix(".pack") for index in folder.glob("pack-*.idx"))
