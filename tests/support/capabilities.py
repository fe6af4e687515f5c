"""What a machine may lack, how to tell, and what to do about it.

A test states its need with ``@pytest.mark.needs("fuse")``; where that is missing the test is skipped,
counted and explained. ``MESA_REQUIRE=fuse,node`` makes such a skip a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CAP_SYS_ADMIN = 21


@dataclass(frozen=True)
class Capability:
    present: Callable[[], bool]
    remedy: str


def _fuse() -> bool:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return _may_administer() if os.geteuid() == 0 else shutil.which("fusermount3") is not None


def _loop() -> bool:
    return (
        _may_administer()
        and Path("/dev/loop-control").exists()
        and shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/sbin:/usr/sbin") is not None
    )


def _may_administer() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


def _root() -> bool:
    return os.geteuid() == 0


def _command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


CAPABILITIES: dict[str, Capability] = {
    "fuse": Capability(
        _fuse, "give this machine /dev/fuse (a container: --device /dev/fuse --cap-add SYS_ADMIN)"
    ),
    "node": Capability(_command("node"), "apt-get install nodejs npm"),
    "loop": Capability(_loop, "run as root where loop devices exist (not in most containers)"),
    "root": Capability(_root, "run as root"),
    "strace": Capability(_command("strace"), "apt-get install strace"),
}


@cache
def present(name: str) -> bool:
    return CAPABILITIES[name].present()
