"""What the guide tells a reader to type works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mesafs.mount.fuse import mounting
from mesafs.testing.server import RunningServer

pytestmark = [pytest.mark.system, pytest.mark.needs("fuse")]

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "getting-started.md"


def blocks(heading: str) -> str:
    """The shell lines under a heading, in their order."""
    section = GUIDE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return "".join(found)


def test_a_reader_of_getting_started_gets_a_mount_with_a_file_and_a_token(tmp_path: Path) -> None:
    home, commands = tmp_path / "home", tmp_path / "bin"
    commands.mkdir()
    (home / ".config/mesa").mkdir(parents=True)
    (commands / "mesa").symlink_to(Path(sys.executable).parent / "mesa")
    with RunningServer.start(tmp_path / "data") as server:
        (home / ".config/mesa/config.toml").write_text(f'api-url = "{server.url}"\n')
        (tmp_path / "admin.key").write_text(server.admin_key)
        environment = {"HOME": str(home), "PATH": f"{commands}:/usr/sbin:/usr/bin:/sbin:/bin"}
        told = blocks("A repository and a mount") + blocks("A sandbox")
        script = f"set -e\n{told}cat greeting.txt\nmesa status\ncd /\nmesa unmount\n"
        try:
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            if mounting.is_ours(home / "mesa/mnt"):
                mounting.unmount(home / "mesa/mnt", lazy=True)

    assert done.returncode == 0, done.stderr
    assert "hello\n" in done.stdout
    assert re.search(r"^eyJ[\w-]+\.[\w-]+\.[\w-]+$", done.stdout, re.MULTILINE)
    assert "published" in done.stdout
