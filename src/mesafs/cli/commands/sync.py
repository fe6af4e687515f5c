"""``mesa sync``: publish now, and return when the server has everything of that mount."""

from __future__ import annotations

import argparse
from pathlib import Path

from mesafs.cli.context import Context
from mesafs.cli.running_mounts import RunningMounts, absolute
from mesafs.mount.fuse import mounting

_SYNC_SECONDS = 300.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", help="a repository in the mount, or any path in it")


def run(arguments: argparse.Namespace, context: Context) -> int:
    mounts = RunningMounts.of(arguments, context)
    path = arguments.path
    if path is None and mounting.containing(Path.cwd()) is not None:
        path = "."
    instance = mounts.find(path)
    given = {} if path is None else {"path": str(absolute(path))}
    mounts.client(instance).call("sync", timeout=_SYNC_SECONDS, **given)
    context.output.line("published: the server has everything")
    return 0
