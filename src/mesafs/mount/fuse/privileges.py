"""What the kernel lets this process do: mount by itself, and register files for passthrough."""

from __future__ import annotations

from pathlib import Path

_CAP_SYS_ADMIN = 21


def is_admin(proc: Path = Path("/proc/self")) -> bool:
    """CAP_SYS_ADMIN in this process's own user namespace: mount(2) works."""
    for line in (proc / "status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def in_initial_namespace(proc: Path = Path("/proc/self")) -> bool:
    """Whether user ids here are those of the machine, as in the initial user namespace."""
    try:
        return (proc / "uid_map").read_text().split() == ["0", "0", "4294967295"]
    except FileNotFoundError:
        return True  # a kernel without user namespaces


def may_pass_through(proc: Path = Path("/proc/self")) -> bool:
    """Whether BACKING_OPEN is permitted, the kernel's own support aside."""
    return is_admin(proc) and in_initial_namespace(proc)
