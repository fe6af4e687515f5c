"""A small disk of its own that can lose its power: what was not synced is gone.

ext4 on a loop device; the cut is ext4's own shutdown ioctl with "do not flush the log". From then
on every call on the disk fails with EIO, until ``remount`` shows what a power cut would have left.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from support.polling import poll

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class PowerCutDisk:
    """``with PowerCutDisk(tmp_path) as disk``: root only; mark the test ``needs("loop")``."""

    def __init__(self, folder: Path, *, size_mb: int = 64, inodes: int | None = None) -> None:
        self._image = folder / "disk.img"
        self.path = folder / "disk"
        self._size_mb = size_mb
        self._inodes = inodes
        self._device: str | None = None
        self._mounted = False

    def __enter__(self) -> Self:
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(self._size_mb << 20)
        count = ["-N", str(self._inodes)] if self._inodes is not None else []
        _run("mkfs.ext4", "-q", "-F", "-m", "0", *count, str(self._image))
        self._device = _run("losetup", "-f", "--show", str(self._image)).strip()
        self._mount()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unmount()
        if self._device is not None:
            _run("losetup", "-d", self._device)

    def cut(self) -> None:
        """Lose the power now. Processes that have files open here live on and get EIO."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def remount(self) -> None:
        """What is there when the power is back. End every process that uses the disk before."""
        self._unmount()
        self._mount()
        poll(self._has_power, 20, what="no mount namespace holds the disk as it was without power")

    def _has_power(self) -> bool:
        """Whether the disk works. While another test's mount namespace has a copy of the old mount,
        mounting gives that very filesystem again, cut off as it is.
        """
        try:
            (self.path / "power").touch()
            (self.path / "power").unlink()
        except OSError:
            self._unmount()
            self._mount()
            return False
        return True

    def _mount(self) -> None:
        assert self._device is not None
        _run("mount", self._device, str(self.path))
        self._mounted = True

    def _unmount(self) -> None:
        if self._mounted:
            poll(self._umount_if_idle, 20, what="every process has left the disk")
            self._mounted = False

    def _umount_if_idle(self) -> bool:
        """Unmount, unless a process that is on its way out still has something open."""
        try:
            _run("umount", str(self.path))
        except RuntimeError as error:
            if "busy" not in str(error):
                raise
            return False
        return True


def _run(*command: str) -> str:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={"PATH": _PATH, "LC_ALL": "C"}
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
