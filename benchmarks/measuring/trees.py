"""Source trees of any size, the same on every machine: many small files, as agents work on."""

from __future__ import annotations

import random
from pathlib import Path

SEED = 20261124
MEDIAN_BYTES = 1_500
LARGEST_BYTES = 32_768
FILES_IN_A_FOLDER = 50
_WORDS = ("agent", "branch", "cache", "commit", "delta", "file", "lease", "merge", "token", "tree")


def lay(root: Path, files: int) -> Path:
    """Write ``files`` text files of skewed sizes, two folders deep."""
    chance = random.Random(SEED)
    prose = " ".join(chance.choices(_WORDS, k=LARGEST_BYTES // 3)).encode()
    for number in range(files):
        folder_number = number // FILES_IN_A_FOLDER
        folder = root / f"area{folder_number % 20:02d}" / f"part{folder_number:04d}"
        if number % FILES_IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        size = min(LARGEST_BYTES, max(16, int(chance.lognormvariate(0, 1) * MEDIAN_BYTES)))
        start = chance.randrange(max(1, len(prose) - size))
        header = f"# {number}\n".encode()
        (folder / f"file{number:05d}.txt").write_bytes(header + prose[start : start + size])
    return root
