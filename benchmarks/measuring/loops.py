"""The client's side of a measurement, in a process of its own: prints seconds, one number a line.

    python3 -I loops.py OPERATION DIRECTORY COUNT

It needs nothing but the standard library, and does in the timed loop as little as Python allows.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from time import perf_counter

FOLDERS = 50
CONTENT = b"what an agent writes, again and again\n" * 40
REPEATS = 3
OPEN_FILES = 200
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "1",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}


def create(directory: str, count: int) -> list[float]:
    """Create, write once and close ``count`` files."""
    for number in range(FOLDERS):
        os.mkdir(f"{directory}/{number:02d}")  # noqa: PTH102 - strings throughout, for speed
    paths = [f"{directory}/{n % FOLDERS:02d}/{n:05d}.txt".encode() for n in range(count)]
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    begun = perf_counter()
    for path in paths:
        fd = os.open(path, flags, 0o644)
        os.write(fd, CONTENT)
        os.close(fd)
    seconds = perf_counter() - begun
    for path in paths[:: max(1, count // 50)]:
        with open(path, "rb") as file:  # noqa: PTH123 - a bytes path
            assert file.read() == CONTENT, path
    return [seconds]


def overwrite(directory: str, count: int) -> list[float]:
    """Open with O_TRUNC, write once and close the files that are there."""
    paths = _files(directory, count)
    flags = os.O_TRUNC | os.O_WRONLY
    begun = perf_counter()
    for path in paths:
        fd = os.open(path, flags)
        os.write(fd, CONTENT)
        os.close(fd)
    return [perf_counter() - begun]


def stat(directory: str, count: int) -> list[float]:
    """Attributes of files whose attributes were just asked for."""
    paths = _files(directory, count)

    def once() -> None:
        for path in paths:
            os.lstat(path)

    return _warm(once)


def read(directory: str, count: int) -> list[float]:
    """Open, read whole and close small files that were just read."""
    paths = _files(directory, count)

    def once() -> None:
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            os.read(fd, 1 << 18)
            os.close(fd)

    return _warm(once)


def read_open(directory: str, count: int) -> list[float]:
    """Read whole, again and again, small files that stay open."""
    open_files = [os.open(path, os.O_RDONLY) for path in _files(directory, OPEN_FILES)]
    turns = max(1, count // len(open_files))

    def once() -> None:
        for _ in range(turns):
            for fd in open_files:
                os.pread(fd, 1 << 18, 0)

    return _warm(once)


def listing(directory: str, count: int) -> list[float]:
    """List every folder and lstat every entry; ``count`` files must be found."""
    begun = perf_counter()
    found = 0
    pending = [directory]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    os.lstat(entry.path)
                    found += 1
    seconds = perf_counter() - begun
    assert found == count, f"{found} files instead of {count}"
    return [seconds]


def git_status(directory: str, _: int) -> list[float]:
    """A status of a clean repository, after another one."""

    def once() -> None:
        said = subprocess.run(
            ["git", "status", "--porcelain"],
            cwd=directory,
            env={"PATH": os.environ["PATH"], **GIT},
            capture_output=True,
            check=True,
        ).stdout
        assert said == b"", said[:200]

    return _warm(once)


def _files(directory: str, count: int) -> list[bytes]:
    found: list[bytes] = []
    for folder, folders, files in os.walk(directory):
        folders.sort()
        found += (f"{folder}/{name}".encode() for name in sorted(files))
    assert len(found) >= count, f"{len(found)} files instead of {count}"
    return found[:count]


def _warm(once) -> list[float]:  # type: ignore[no-untyped-def]  # -I: no typing imported
    once()
    samples = []
    for _ in range(REPEATS):
        begun = perf_counter()
        once()
        samples.append(perf_counter() - begun)
    return [sorted(samples)[REPEATS // 2]]


OPERATIONS = {
    "create": create,
    "overwrite": overwrite,
    "stat": stat,
    "read": read,
    "read-open": read_open,
    "listing": listing,
    "git-status": git_status,
}

if __name__ == "__main__":
    gc.disable()
    for sample in OPERATIONS[sys.argv[1]](sys.argv[2], int(sys.argv[3])):
        print(sample)
