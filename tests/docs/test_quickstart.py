"""The README's first command tells the whole story, and cleans up or keeps as it was asked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from support.polling import poll

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.needs("fuse")]


def _quickstart(*arguments: str, parent: str = "/var/tmp") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "quickstart", *arguments],
        env={**os.environ, "MESA_QUICKSTART_DIR": parent},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_story_ends_well_and_leaves_nothing() -> None:
    parent = tempfile.mkdtemp(prefix="mesafs-story-", dir="/var/tmp")

    done = _quickstart(parent=parent)

    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.partition("What happened\n")[2]
    trees = re.findall(r"both are ([0-9a-f]{12})", summary)
    assert len(trees) == 2
    assert f"tree {trees[0]} again" in summary
    assert trees[0] == trees[1]
    assert "401" in summary
    Path(parent).rmdir()  # fails if anything is left in it


def test_kept_it_goes_on_running() -> None:
    done = _quickstart("--keep")

    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"Still running, in (\S+)\.", done.stdout)
    ending = re.search(
        r"^  HOME=(\S+) (\S+) unmount (\S+) && kill (\d+)$", done.stdout, re.MULTILINE
    )
    assert found is not None
    assert ending is not None
    home, command, point, server = ending.groups()
    try:
        work = Path(point) / "my-org" / "agent-workspace"
        assert (work / "stdlib" / "textwrap.py").read_text().startswith("# An agent was here.")
        (work / "later.txt").write_text("still writable")
    finally:
        ended = subprocess.run(
            [command, "unmount", point],
            env={**os.environ, "HOME": home},
            capture_output=True,
            check=False,
        )
        os.kill(int(server), signal.SIGTERM)
    assert (ended.returncode, ended.stderr) == (0, b"")
    poll(lambda: not Path(f"/proc/{server}").exists(), 30, what="the server ends")
    subprocess.run(["rm", "-rf", found[1]], check=True)


def test_where_nothing_can_be_mounted_the_same_story_runs_inside_the_process() -> None:
    done = _quickstart("--no-mount")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "in-process checkout" in done.stdout
    assert "REST says 401" in done.stdout
