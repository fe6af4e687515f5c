"""Running one of the loops in a process of its own."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from measuring import loops


def run_loop(operation: str, directory: Path, count: int) -> float:
    """Seconds of one loop, by the clock of the process that ran it."""
    said = subprocess.run(
        [sys.executable, "-I", loops.__file__, operation, directory, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return statistics.median(map(float, said.split()))
