"""What coding agents do, timed by the shared suite on ext4 and on our mount, interleaved.

    benchmarks/workloads [--quick] [--rounds N] [--only W1,W2] [--no-passthrough] [--json OUT]

The suite is a program beside the checkout; this gives it a server, a mount and a plain folder of the
same disk. Before each of its cold workloads ours is unmounted and mounted again, so neither the
kernel nor a daemon remembers anything but the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from measuring.arguments import add_common, finish, rounds_of
from measuring.lab import Lab, Mount, laboratory
from measuring.neighbours import SHARED, suite_program
from measuring.scratch import scratch

_PATH = re.compile(r"(?<!\w)(?:/[\w.@+-]+)+")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common(parser)
    parser.add_argument("--suite", type=Path, default=SHARED / "bench", metavar="DIR")
    parser.add_argument("--only", metavar="W1,W2", help="workloads to run")
    parser.add_argument("--skip", metavar="W1,W2", help="workloads to leave out")
    parser.add_argument(
        "--no-passthrough", action="store_true", help="also a mount whose daemon carries all data"
    )
    options = parser.parse_args()
    rounds = rounds_of(options, full=5)
    program = suite_program(options.suite, "workloads.py")
    with scratch(options.scratch) as place, laboratory(place.folder) as lab:
        status, result = measure(lab, program, options, rounds)
    result["disk"] = place.kind
    return finish(options, "workloads", rounds, result) or status


def measure(
    lab: Lab, program: Path, options: argparse.Namespace, rounds: int
) -> tuple[int, dict[str, Any]]:
    """The suite's exit status (1: wrong data came back) and its document."""
    ways: dict[str, tuple[str, ...]] = {"mesa": ()}
    if options.no_passthrough:
        ways["mesa-no-passthrough"] = ("--no-passthrough",)
    plain = lab.folder / "ext4"
    plain.mkdir()
    output = lab.folder / "out.json"
    arguments = [sys.executable, str(program), "--target", f"ext4={plain}"]
    with contextlib.ExitStack() as stack:
        for name, how in ways.items():
            lab.repository(name)
            mount = stack.enter_context(lab.mounted(name, lab.folder / name, *how))
            hook = _remount_hook(lab, mount, name, how)
            arguments += ["--target", f"{name}={mount.directory}", "--before", f"{name}={hook}"]
        arguments += ["--rounds", str(rounds), "--json", str(output)]
        arguments += ["--fixtures", str(lab.folder / "fixtures")]
        arguments += ["--quick"] * options.quick
        for option in ("only", "skip"):
            if value := getattr(options, option):
                arguments += [f"--{option}", value]
        status = subprocess.run(arguments, cwd=lab.folder, check=False).returncode
    return status, _reduced(json.loads(output.read_text()))


def _reduced(document: dict[str, Any]) -> dict[str, Any]:
    """Samples by step and target, and what did not come through; without names of this machine."""
    steps: dict[str, dict[str, list[float | None]]] = {}
    problems: dict[str, str] = {}
    for record in document["records"]:
        workload, target, outcome = record["workload"], record["target"], record["outcome"]
        if outcome["status"] != "ok":
            detail = _PATH.sub("…", outcome["detail"])
            problems[f"{workload} on {target}"] = f"{outcome['status']}: {detail}"
        for step, seconds in outcome["timings"].items():
            own = steps.setdefault(f"{workload}.{step}", {})
            own.setdefault(target, [None] * document["rounds"])[record["round"]] = seconds
    return {"steps": steps, "problems": problems}


def _remount_hook(lab: Lab, mount: Mount, repository: str, how: tuple[str, ...]) -> str:
    """A shell line that returns when a new daemon has the mount ready."""
    point = shlex.quote(str(mount.point))
    lines = (
        "cd /",
        f"$MESA unmount {point}",
        f"$MESA mount -d --mount-point {point} {shlex.join(how)}",
    )
    return shlex.quote(str(lab.script(mount.home / "remount", repository, mount.home, *lines)))


if __name__ == "__main__":
    sys.exit(main())
