"""From nothing to the first byte of one file of a large repository, and to a listing of all of it.

    benchmarks/first_byte [--quick] [--rounds N] [--json OUT]

The shared suite makes the repository and times git's ways over loopback; ours is one more way beside
them: a mount by a client that has never seen the repository. The listing is of all files, by such a
client too.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measuring.arguments import add_common, finish, rounds_of
from measuring.lab import ORGANISATION, Lab, Moved, laboratory
from measuring.neighbours import SHARED, suite_program
from measuring.operations import run_loop
from measuring.samples import Spread
from measuring.scratch import scratch

REPOSITORY = "large"
FILES = 20_000
QUICK_FILES = 2_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common(parser)
    parser.add_argument("--suite", type=Path, default=SHARED / "bench", metavar="DIR")
    options = parser.parse_args()
    rounds = rounds_of(options, full=5)
    files = QUICK_FILES if options.quick else FILES
    program = suite_program(options.suite, "first_byte.py")
    with scratch(options.scratch) as place, laboratory(place.folder) as lab:
        result = measure(lab, program, files, rounds)
    result["disk"] = place.kind
    show(result)
    return finish(options, "first-byte", rounds, result)


def measure(lab: Lab, program: Path, files: int, rounds: int) -> dict[str, Any]:
    bare = lab.folder / "large.git"
    output = lab.folder / "first-byte.json"
    suite = [sys.executable, str(program), "--repository", str(bare), "--files", str(files)]
    suite += ["--json", str(output)]
    # The first run makes the repository, and is thrown away like every first run.
    _run(lab, [*suite, "--rounds", "1"])
    _import(lab, bare)
    home = lab.folder / "newcomer"
    mount = lab.script(lab.folder / "mount", REPOSITORY, home, '$MESA mount -d --mount-point "$1"')
    unmount = lab.script(lab.folder / "unmount", REPOSITORY, home, '$MESA unmount "$1"')
    _run(
        lab,
        [
            *suite,
            *("--rounds", str(rounds)),
            *(
                "--before",
                f"mesa=rm -rf {shlex.quote(str(home))} && mkdir {shlex.quote(str(home))}",
            ),
            *("--command", f"mesa={shlex.quote(str(mount))} {{dir}}"),
            *("--file", f"mesa={{dir}}/{ORGANISATION}/{REPOSITORY}/{{path}}"),
            *("--after", f"mesa={shlex.quote(str(unmount))} {{dir}}"),
        ],
    )
    timed = json.loads(output.read_text())
    return {
        "files": timed["files"],
        "seconds": timed["seconds"],
        "moved": _first_read(lab, timed["path"]),
        **_listings(lab, timed["files"], rounds),
    }


def _run(lab: Lab, arguments: list[str]) -> None:
    environment = lab.environment(lab.folder / "admin", "")
    del environment["MESA_API_KEY"]
    environment["TMPDIR"] = str(lab.folder)  # the clones lie on the disk that is measured
    subprocess.run(arguments, cwd=lab.folder, env=environment, check=True)


def _import(lab: Lab, bare: Path) -> None:
    work = lab.folder / "large"
    subprocess.run(["git", "clone", "-q", bare, work], check=True)
    shutil.rmtree(work / ".git")
    lab.repository(REPOSITORY, work)


def _first_read(lab: Lab, path: str) -> dict[str, Any]:
    """What a mount, the first read of a file and the second one each move."""
    stages: dict[str, Any] = {}
    before = lab.moved()

    def stage(name: str) -> None:
        nonlocal before
        now = lab.moved()
        stages[name] = asdict(_difference(before, now))
        before = now

    with lab.mounted(REPOSITORY, lab.folder / "reader") as mount:
        stage("mount")
        (mount.directory / path).read_bytes()
        stage("first read")
        (mount.directory / path).read_bytes()
        stage("second read")
    return stages


def _listings(lab: Lab, files: int, rounds: int) -> dict[str, Any]:
    """Seconds of a mount, and of listing all with lstat afterwards, each by a new client."""
    mounting, listing, moved = [], [], []
    for number in range(rounds):
        home = lab.folder / f"lister{number}"
        before = lab.moved()
        begun = time.perf_counter()
        with lab.mounted(REPOSITORY, home) as mount:
            mounting.append(time.perf_counter() - begun)
            listing.append(run_loop("listing", mount.directory, files))
            moved.append(asdict(_difference(before, lab.moved())))
    return {"mount_seconds": mounting, "listing_seconds": listing, "listing_moved": moved[-1]}


def _difference(before: Moved, after: Moved) -> Moved:
    operations = {
        name: count - before.by_operation.get(name, 0)
        for name, count in after.by_operation.items()
        if count > before.by_operation.get(name, 0)
    }
    return Moved(after.requests - before.requests, after.sent_bytes - before.sent_bytes, operations)


def show(result: dict[str, Any]) -> None:
    print(f"mount: {Spread.of(result['mount_seconds']).shown(3)} s")
    print(f"listing of {result['files']} files: {Spread.of(result['listing_seconds']).shown(3)} s")
    for name, moved in (*result["moved"].items(), ("mount and listing", result["listing_moved"])):
        print(f"{name}: {moved['requests']} requests, {moved['sent_bytes']:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
