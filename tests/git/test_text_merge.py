"""Merging text by line agrees with git(1) and gives every byte back."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from mesafs.git.text_merge import Region, merge_text


def versions(regions: list[bytes | Region], side: str) -> bytes:
    return b"".join(
        region if isinstance(region, bytes) else getattr(region, side) for region in regions
    )


@pytest.mark.parametrize(
    ("base", "ours", "theirs"),
    [
        (b"a\nb\n", b"a\nB\n", b"a\nC\n"),
        (b"a\nb", b"a\nB", b"a\nC"),
        (b"a\r\nb", b"a\r\nB", b"a\r\nC\r\n"),
        (b"", b"one", b"two\n"),
        (b"x\n", b"", b"y"),
        (b"<<<<<<< x\n", b"=======\n", b">>>>>>> y\n"),
        (b"|" * 40 + b"\n", b"<" * 50 + b"\n", b"=" * 60),
        (b"\xff\xfe\n", b"\xff\n", b"\xfe\n"),
    ],
)
def test_versions_that_differ_everywhere_come_back_byte_for_byte(
    base: bytes, ours: bytes, theirs: bytes
) -> None:
    regions = merge_text(base, ours, theirs)

    assert [versions(regions, side) for side in ("ours", "base", "theirs")] == [ours, base, theirs]


@pytest.mark.compat
def test_clean_merges_are_those_of_git(tmp_path: Path) -> None:
    chance = random.Random(7)
    names = [tmp_path / name for name in ("ours", "base", "theirs")]
    for _ in range(40):
        base = [b"%d\n" % number for number in range(30)]
        ours, theirs = ([*base], [*base])
        for side in (ours, theirs):
            side[chance.randrange(30)] = b"changed %d\n" % chance.randrange(9)
            del side[chance.randrange(29)]
        texts = [b"".join(lines) for lines in (ours, base, theirs)]
        for path, text in zip(names, texts, strict=True):
            path.write_bytes(text)

        regions = merge_text(texts[1], texts[0], texts[2])

        git = subprocess.run(
            ["git", "merge-file", "-p", "--diff3", *map(str, names)],
            capture_output=True,
            check=False,
        )
        clean = not any(isinstance(region, Region) for region in regions)
        assert clean == (git.returncode == 0)
        if clean:
            assert versions(regions, "ours") == git.stdout
