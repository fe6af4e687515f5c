"""Uncompressed copies of large blobs, so that a range of one is a read at an offset.

A copy is made on the first read and may be removed at any time: the pack has the content. Copies are
named by blob id and complete whenever they are there.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from mesafs.base.files import Files
from mesafs.git.repository import ObjectStore
from mesafs.model.ids import BlobId

#: Smaller blobs are read from their pack.
LARGE_BYTES = 8 << 20
#: What all copies of one repository may take together.
BUDGET_BYTES = 2 << 30


def raw_copy(store: ObjectStore, blob: BlobId, files: Files) -> Path:
    """The file with the blob's bytes, made if it is missing."""
    folder = store.path / "raw"
    target = folder / blob.hex()
    if target.exists():
        return target
    folder.mkdir(exist_ok=True)
    content = store.blob(blob)
    _make_room(folder, len(content))
    staged = folder / f"{secrets.token_hex(8)}.new"
    staged.write_bytes(content)
    files.rename("raw.rename", staged, target)
    return target


def _make_room(folder: Path, wanted: int) -> None:
    """Remove the oldest copies until ``wanted`` more bytes fit. Open readers keep what they read."""
    with os.scandir(folder) as entries:
        copies = sorted(
            (entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries
        )
    total = sum(size for _, size, _ in copies)
    for _, size, path in copies:
        if total + wanted <= BUDGET_BYTES:
            return
        Path(path).unlink(missing_ok=True)
        total -= size
