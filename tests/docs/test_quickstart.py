"""The README's first command tells the whole story, and cleans up after itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT = "mesafs-quickstart-*"

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.needs("fuse")]


def _quickstart(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "quickstart", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_story_ends_well_and_leaves_nothing() -> None:
    before = set(Path("/var/tmp").glob(LEFT))

    done = _quickstart()

    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.partition("What happened\n")[2]
    trees = re.findall(r"both are ([0-9a-f]{12})", summary)
    assert len(trees) == 2
    assert f"tree {trees[0]} again" in summary
    assert trees[0] == trees[1]
    assert "401" in summary
    assert set(Path("/var/tmp").glob(LEFT)) == before
