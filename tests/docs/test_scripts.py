"""The scripts say what is wrong, and the agent's work needs nothing of ours."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("script", ["setup", "check", "quickstart"])
@pytest.mark.system
def test_a_wrong_argument_gets_the_usage(script: str) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / script, "--wrong"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert f"usage: scripts/{script}" in done.stderr


@pytest.mark.parametrize("script", ["setup", "check", "test", "quickstart", "lock"])
def test_the_shell_finds_no_fault(script: str) -> None:
    done = subprocess.run(
        ["bash", "-n", ROOT / "scripts" / script], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.system
def test_the_scripted_agent_does_its_work_in_any_folder(tmp_path: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    target = tmp_path / "stdlib"
    for package in ("json", "wsgiref", "xmlrpc"):
        shutil.copytree(library / package, target / package)
    for module in ("textwrap.py", "bisect.py", "colorsys.py", "this.py", "timeit.py"):
        shutil.copy(library / module, target)

    done = subprocess.run(
        [ROOT / "examples" / "agents" / "scripted.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert (target / "textwrap.py").read_text().startswith("# An agent was here.\n")
    assert (target / "bisect.py").read_text().endswith("# The end.\n")
    assert len(list((tmp_path / "notes").iterdir())) == 20
    assert (tmp_path / "copies/stdlib/json/decoder.py").exists()
    assert (target / "gateway").is_dir()
    assert not (target / "xmlrpc").exists()
    assert (target / "timeit.py").stat().st_mode & 0o111
