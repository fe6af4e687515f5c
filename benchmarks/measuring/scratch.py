"""The disk that everything of one run lies on.

By default a new ext4 in a file, mounted without ``discard``: on a used disk, allocating what was
deleted a moment ago varies more than any filesystem under test. Without the rights for it, or when a
folder is named, a plain folder, and the result says which.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIZE_BYTES = 12 << 30
PARENT = Path("/var/tmp")  # /tmp may be memory


@dataclass(frozen=True, slots=True)
class Scratch:
    folder: Path
    #: For the page of results: what kind of disk this is.
    kind: str


@contextlib.contextmanager
def scratch(named: Path | None) -> Iterator[Scratch]:
    """A folder to measure in; gone at the end."""
    if named is not None or os.geteuid() != 0:
        with _temporary(named or PARENT) as folder:
            yield Scratch(folder, f"the machine's own, {_filesystem(folder)}")
        return
    with _temporary(PARENT) as folder, _fresh_ext4(folder) as disk:
        yield Scratch(disk, "a new ext4")


@contextlib.contextmanager
def _temporary(parent: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix="mesa-bench-", dir=parent, ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


@contextlib.contextmanager
def _fresh_ext4(folder: Path) -> Iterator[Path]:
    image, disk = folder / "disk", folder / "d"
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    options = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", "-E", options, image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop,nodiscard", image, disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def _filesystem(folder: Path) -> str:
    said = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", folder], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()
