"""Facts about the machine that explain a number, and nothing that names the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime

from mesafs.version import __version__


def environment() -> dict[str, str | int]:
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "kernel": platform.release().partition("-")[0],
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "git": git.split()[2],
        "mesafs": __version__,
    }
