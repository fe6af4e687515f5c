"""Durable steps on files, each under a name that a test can fail.

Whoever writes state calls these instead of ``os``; the first argument of every method is the step's
name (``journal.append``, ``pack.rename``, …). Production uses :class:`Files`. Tests pass a subclass,
or set ``MESA_FAULT=step:nth:action`` in a child process through ``mesafs.testing``, which replaces
``Files.reached``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Location = str | bytes | Path

#: Called with the name of a step just before it is carried out; a test installs its own to fail,
#: delay or kill there. Production leaves it empty.
Hook = Callable[[str], None]


class Files:
    """The real disk."""

    def __init__(self, hook: Hook | None = None) -> None:
        self._hook = hook

    def reached(self, step: str) -> None:
        """Announce a named step that is not itself a file operation."""
        if self._hook is not None:
            self._hook(step)

    def append(self, step: str, fd: int, data: bytes) -> None:
        """Append ``data`` with one write(2); a short write is continued, an error leaves a torn tail."""
        if self._hook is not None:
            self._hook(step)
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, data[written:])

    def sync(self, step: str, fd: int) -> None:
        """Flush a file's data to stable storage. A failure is final: never retried into success."""
        if self._hook is not None:
            self._hook(step)
        os.fdatasync(fd)

    def sync_directory(self, step: str, directory: Location) -> None:
        """Flush a directory's entries, so that a created or renamed name survives a power cut."""
        if self._hook is not None:
            self._hook(step)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def write(self, step: str, path: Location, data: bytes, *, mode: int = 0o600) -> None:
        """Create or truncate ``path``, write ``data`` and flush it. Not atomic: stage, then publish."""
        if self._hook is not None:
            self._hook(step)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def publish(self, step: str, staged: Location, target: Location) -> None:
        """Rename ``staged`` over ``target`` and flush the directory: old content or new, never a mix."""
        self.rename(step, staged, target)
        self.sync_directory(f"{step}.dirsync", os.path.dirname(os.fspath(target)) or ".")

    def rename(self, step: str, source: Location, target: Location) -> None:
        """Rename without flushing anything."""
        if self._hook is not None:
            self._hook(step)
        os.replace(source, target)

    def unlink(self, step: str, path: Location) -> None:
        """Remove a name; one that is gone already is the wanted state."""
        if self._hook is not None:
            self._hook(step)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
