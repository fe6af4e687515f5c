"""The test kit itself: the disk that loses power, and git without anybody's settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.plain_git import git, write_tree
from support.power import PowerCutDisk


@pytest.mark.system
@pytest.mark.needs("loop")
def test_a_power_cut_keeps_what_was_synced_and_nothing_else(tmp_path: Path) -> None:
    with PowerCutDisk(tmp_path) as disk:
        synced, lost = disk.path / "synced", disk.path / "lost"
        synced.write_bytes(b"safe")
        with synced.open("rb") as file:
            os.fsync(file.fileno())
        lost.write_bytes(b"not synced")

        disk.cut()
        with pytest.raises(OSError, match="Input/output error"):
            (disk.path / "later").write_bytes(b"")
        disk.remount()

        assert synced.read_bytes() == b"safe"
        assert not lost.exists()


def test_write_tree_equals_what_a_repository_would_commit(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "script").write_bytes(b"#!/bin/sh\r\n")
    (folder / "a" / "script").chmod(0o755)
    (folder / ".gitignore").write_bytes(b"*.log\n")
    (folder / "x.log").write_bytes(b"kept all the same")
    (folder / "link").symlink_to("a/script")

    tree = write_tree(folder)

    assert not (folder / ".git").exists()
    git("init", "--quiet", folder)
    git("add", "--all", "--force", ".", cwd=folder)
    assert tree == git("write-tree", cwd=folder).decode().strip()
