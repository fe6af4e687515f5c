"""``mesa unmount``: publish what is left, take the mount away, end its daemon.

Exit 0 means that the server has everything. ``--force`` publishes nothing and waits for nobody; what
was acknowledged stays in the journal and is published by the next mount.
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from mesafs.base.clock import Clock
from mesafs.base.errors import Unavailable
from mesafs.cli.context import Context
from mesafs.cli.running_mounts import RunningMounts, absolute
from mesafs.mount import control
from mesafs.mount.control import Instance
from mesafs.mount.fuse import mounting

_DRAIN_SECONDS = 120.0
_GONE_SECONDS = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", help="a mount, or any path inside it")
    parser.add_argument(
        "--force", action="store_true", help="do not wait for the daemon, the server or open files"
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    mounts = RunningMounts.of(arguments, context)
    try:
        instance = mounts.find(arguments.path)
    except control.NoDaemon:
        target = _named(arguments.path, mounts.default)
        if target is None:
            raise
        return _clear(context, target, force=arguments.force)
    if arguments.force:
        return _force(context, mounts, instance)
    return _drain(context, mounts, instance)


def _drain(context: Context, mounts: RunningMounts, instance: Instance) -> int:
    mounts.client(instance).call("unmount", timeout=_DRAIN_SECONDS)
    target = Path(instance.mount_point)
    _wait_until_gone(target, context.clock)
    context.output.line(f"{target} is unmounted; the server has everything")
    return 0


def _wait_until_gone(target: Path, clock: Clock) -> None:
    deadline = clock.monotonic() + _GONE_SECONDS
    never = threading.Event()
    while mounting.is_ours(target):
        if clock.monotonic() > deadline:
            raise Unavailable(
                f"{target} is published and still mounted after {_GONE_SECONDS:g} seconds",
                hint=f"`mesa unmount --force {target}`",
            )
        clock.wait(never, 0.02)


def _force(context: Context, mounts: RunningMounts, instance: Instance) -> int:
    target = Path(instance.mount_point)
    entry = mounting.find(target)
    if entry is not None and entry.is_ours:
        mounting.abort(entry)
        mounting.unmount(target, lazy=True)
    mounts.client(instance).kill()
    control.clear_dead(mounts.places.runtime)
    context.output.line(f"{target} is unmounted by force; unpublished edits wait in the journal")
    return 0


def _named(path: str | None, default: Path | None) -> Path | None:
    """A mount of ours that no daemon of this user serves any more."""
    if path is not None:
        entry = mounting.containing(absolute(path))
        return None if entry is None else entry.target
    if default is not None and mounting.is_ours(default):
        return default
    return None


def _clear(context: Context, target: Path, *, force: bool) -> int:
    if force:
        mounting.unmount(target, lazy=True)
    elif not mounting.clear_stale(target):
        raise control.NoDaemon(
            f"no daemon of this user answers for {target}",
            hint=f"`mesa unmount --force {target}` takes it away",
        )
    context.output.line(
        f"{target} had lost its daemon and is unmounted; its edits wait in the journal"
    )
    return 0
