"""The page of benchmarks says what the committed results say, and neither names a machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"


def _report(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "measuring.report", *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "benchmarks")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_is_what_the_committed_results_make() -> None:
    done = _report("--check")

    assert done.returncode == 0, done.stderr


def test_another_result_makes_another_page(tmp_path: Path) -> None:
    document = json.loads(RESULTS.read_text())
    for measurement in document["measurements"]:
        if measurement["kind"] == "latency":
            measurement["archive_bytes"] = 5_000_000
    changed = tmp_path / "results.json"
    changed.write_text(json.dumps(document))

    done = _report("--check", "--json", changed)

    assert done.returncode == 1
    assert "benchmarks/report" in done.stderr


def test_targets_that_are_missed_come_first() -> None:
    table = PAGE.read_text().partition("## Targets")[2].partition("\n## ")[0]
    verdicts = ["missed" in row for row in table.splitlines() if row.startswith("| ")][1:]

    assert verdicts == sorted(verdicts, reverse=True)
    assert len(verdicts) > 5


def test_the_results_are_of_a_full_run() -> None:
    measurements = json.loads(RESULTS.read_text())["measurements"]

    assert {entry["kind"] for entry in measurements} == {"first-byte", "latency", "workloads"}
    assert not any(entry["quick"] for entry in measurements)


@pytest.mark.parametrize("committed", [RESULTS, PAGE], ids=["results", "page"])
def test_no_folder_of_the_measuring_machine_is_named(committed: Path) -> None:
    text = committed.read_text().partition("## To repeat")[0]

    assert re.findall(r"/(?:tmp|var|home|root|dev)/[\w.-]+", text) == []
