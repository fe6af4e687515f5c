"""Single operations, warm, on ext4, on our mount and on the prototype; memory, start, size.

    benchmarks/latency [--quick] [--rounds N] [--cpu N] [--json OUT]

Each operation is a loop in a process of its own. Within a round it visits every target, and before
the next one has its turn the mount has published what it was given.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from measuring import loops, trees
from measuring.arguments import add_common, finish, rounds_of
from measuring.lab import Lab, Mount, laboratory, prototype
from measuring.neighbours import SHARED, prototype_program
from measuring.operations import run_loop
from measuring.samples import Samples, Spread, interleave, ratios
from measuring.scratch import scratch

REPOSITORY = "latency"
STARTS = 20


@dataclass(frozen=True, slots=True)
class Sizes:
    created: int
    warm: int
    listed: int

    @classmethod
    def of(cls, *, quick: bool) -> Sizes:
        return cls(1_000, 1_000, 4_000) if quick else cls(5_000, 5_000, 20_000)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target keeps files. ``mount`` is set for ours, which publishes what it is given."""

    directory: Path
    lab: Lab | None = None
    mount: Mount | None = None

    def settle(self) -> None:
        if self.lab and self.mount:
            self.lab.settle(self.mount)
        os.sync()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common(parser)
    parser.add_argument("--cpu", type=int, metavar="N", help="run everything on one CPU")
    parser.add_argument("--no-passthrough", action="store_true", help="another way to mount ours")
    parser.add_argument(
        "--prototype", type=Path, default=SHARED / "design" / "fuse_prototype.py", metavar="FILE"
    )
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})  # whatever is started from here on inherits it
    rounds = rounds_of(options, full=5)
    sizes = Sizes.of(quick=options.quick)
    program = prototype_program(options.prototype)
    with scratch(options.scratch) as place, laboratory(place.folder) as lab:
        result = measure(lab, program, sizes, rounds, passthrough=not options.no_passthrough)
    result["disk"] = place.kind
    result["sizes"] = {"created": sizes.created, "warm": sizes.warm, "listed": sizes.listed}
    result["pinned"] = options.cpu is not None
    show(result)
    return finish(options, "latency", rounds, result)


def measure(
    lab: Lab, program: Path, sizes: Sizes, rounds: int, *, passthrough: bool
) -> dict[str, Any]:
    options = () if passthrough else ("--no-passthrough",)
    tree = trees.lay(lab.folder / "tree", sizes.warm)
    lab.repository(REPOSITORY, tree)
    steps: dict[str, Samples] = {}
    with contextlib.ExitStack() as open_until_the_end:
        places = _places(lab, program, tree, options, open_until_the_end)
        written = tuple(places)
        served = tuple(name for name in places if name != "prototype")
        for name, place in places.items():
            _say(f"laying out what is warm on {name}")
            _make_git_repository(place.directory / "git", tree)
            place.settle()
        create = partial(_create, places, sizes.created)
        steps["create+write+close"] = interleave(written, rounds, create)
        for name, operation, below, targets in (
            ("stat", "stat", "tree", served),
            ("open+read+close", "read", "tree", served),
            ("read of an open file", "read-open", "tree", served),
            ("open+read+close of edited files", "read", "git", written),
            ("overwrite+close", "overwrite", "git/files", written),
            ("git status", "git-status", "git", written),
        ):
            once = partial(_loop, places, operation, below, sizes.warm)
            if operation == "git-status":
                for place in places.values():
                    _commit(place.directory / "git")
                    place.settle()
            steps[name] = interleave(targets, rounds, once)
            for target in targets[1:]:
                ratio = Spread.of(ratios(steps[name], target, "ext4"))
                _say(f"{name}, {target}: {ratio.shown()} times ext4")
    return {
        "steps": steps,
        "memory_bytes": _memory(lab, sizes.listed),
        "version_seconds": _starts(lab),
        "archive_bytes": lab.archive_bytes,
    }


def _places(
    lab: Lab, program: Path, tree: Path, options: tuple[str, ...], stack: contextlib.ExitStack
) -> dict[str, Place]:
    """Ours shows the imported tree in ``tree``; ext4 has a copy of it there."""
    plain = lab.folder / "ext4"
    shutil.copytree(tree, plain / "tree")
    sketch = stack.enter_context(prototype(program, lab.folder / "prototype"))
    mount = stack.enter_context(lab.mounted(REPOSITORY, lab.folder / "home", *options))
    return {
        "ext4": Place(plain),
        "prototype": Place(sketch),
        "mesa": Place(mount.directory, lab, mount),
    }


def _create(places: dict[str, Place], count: int, target: str, _: int) -> float:
    place = places[target]
    folder = place.directory / "created"
    folder.mkdir()
    seconds = run_loop("create", folder, count)
    place.settle()
    shutil.rmtree(folder)
    place.settle()
    return seconds


def _loop(
    places: dict[str, Place], operation: str, below: str, count: int, target: str, _: int
) -> float:
    place = places[target]
    directory = place.directory
    if not (below == "tree" and place.mount):  # the repository itself is the tree
        directory /= below
    seconds = run_loop(operation, directory, count)
    if operation == "overwrite":
        place.settle()
    return seconds


def _make_git_repository(folder: Path, tree: Path) -> None:
    shutil.copytree(tree, folder / "files")
    _git("init", "-q", "-b", "main", cwd=folder)


def _commit(folder: Path) -> None:
    """Git compares whole seconds and reads again what is not older than its index: wait for one."""
    _git("add", "-A", cwd=folder)
    _git("commit", "-q", "-m", "all", cwd=folder)
    time.sleep(1.05 - time.time() % 1)
    _git("status", cwd=folder)


def _git(*arguments: str, cwd: Path) -> None:
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@example.invalid")
    subprocess.run(
        ["git", *identity, *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **loops.GIT},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _memory(lab: Lab, files: int) -> float:
    """Resident bytes of a daemon that has shown every file of a repository once."""
    _say(f"memory after listing {files} files")
    lab.repository("large", trees.lay(lab.folder / "large", files))
    with lab.mounted("large", lab.folder / "large-home") as mount:
        run_loop("listing", mount.directory, files)
        return lab.daemon_memory_bytes(mount)


def _starts(lab: Lab) -> list[float]:
    def once() -> Iterator[float]:
        for _ in range(STARTS):
            begun = time.perf_counter()
            lab.run("version", home=lab.folder / "admin")
            yield time.perf_counter() - begun

    return list(once())


def show(result: dict[str, Any]) -> None:
    for step, samples in result["steps"].items():
        base = Spread.of(samples["ext4"]).shown(1, 1000)
        print(f"{step}: ext4 {base} ms", end="")
        for target in list(samples)[1:]:
            print(f"; {target} {Spread.of(ratios(samples, target, 'ext4')).shown()}", end="")
        if "prototype" in samples:
            print(
                f"; mesa/prototype {Spread.of(ratios(samples, 'mesa', 'prototype')).shown()}",
                end="",
            )
        print()
    print(f"daemon memory: {result['memory_bytes'] / 1e6:.1f} MB")
    print(f"mesa version: {Spread.of(result['version_seconds']).shown(1, 1000)} ms")
    print(f"client archive: {result['archive_bytes']:,} bytes")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
