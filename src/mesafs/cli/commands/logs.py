"""``mesa logs``: what the daemon wrote, and with ``-f`` what it goes on to write."""

from __future__ import annotations

import argparse
import threading
from collections import deque
from pathlib import Path
from typing import TextIO

from mesafs.base.errors import MesaError, NotFound
from mesafs.cli.context import Context
from mesafs.cli.running_mounts import RunningMounts

_POLL_SECONDS = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", help="a mount, or any path inside it")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until interrupted")
    parser.add_argument("-n", "--lines", type=int, default=100, help="how many (100)")


def run(arguments: argparse.Namespace, context: Context) -> int:
    file = _log_file(RunningMounts.of(arguments, context), arguments.path)
    with file.open(encoding="utf-8", errors="replace") as log:
        for text in deque(log, maxlen=max(0, arguments.lines)):
            context.output.line(text.rstrip("\n"))
        if arguments.follow:
            _follow(context, file, log)
    return 0


def _log_file(mounts: RunningMounts, path: str | None) -> Path:
    """That of the running daemon, or else the newest there is."""
    try:
        found = mounts.find(path).log_file
        if found is None:
            raise NotFound("that mount runs in the foreground and logs to its terminal")
        return Path(found)
    except MesaError:
        if path is not None:
            raise
    written = sorted(mounts.places.logs.glob("*.log"), key=lambda file: file.stat().st_mtime)
    if not written:
        raise NotFound("no daemon has written a log", hint="start one: `mesa mount --daemonize`")
    return written[-1]


def _follow(context: Context, file: Path, log: TextIO) -> None:
    """Until interrupted, over rotations of the file."""
    never = threading.Event()
    current = log
    try:
        while True:
            while text := current.readline():
                context.output.line(text.rstrip("\n"))
            context.clock.wait(never, _POLL_SECONDS)
            if _rotated(file, current):
                if current is not log:
                    current.close()
                current = file.open(encoding="utf-8", errors="replace")
    finally:
        if current is not log:
            current.close()


def _rotated(file: Path, log: TextIO) -> bool:
    try:
        return not file.samefile(f"/proc/self/fd/{log.fileno()}")
    except FileNotFoundError:
        return False
