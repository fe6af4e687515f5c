"""All measurements, one after the other, and the page made of them.

    benchmarks/run [--quick] [--rounds N] [--suite DIR] [--json OUT] [--only latency,workloads]

A full run replaces benchmarks/results.json and docs/benchmarks.md. A quick one, and one with --json,
leaves them alone: the results go to OUT and the page beside it, or both to where it says.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import report, results
from measuring.neighbours import SHARED, prototype_program, suite_program

OWN_DISK = "/var/tmp"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller inputs, one round: a first look"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often everything is repeated")
    parser.add_argument(
        "--only", metavar="M1,M2", help="of these: " + ", ".join(_plans(Path(), Path()))
    )
    parser.add_argument("--suite", type=Path, default=SHARED / "bench", metavar="DIR")
    parser.add_argument(
        "--prototype", type=Path, default=SHARED / "design" / "fuse_prototype.py", metavar="FILE"
    )
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="leave the committed results alone"
    )
    options = parser.parse_args()
    suite_program(options.suite, "workloads.py")  # before an hour is spent
    prototype_program(options.prototype)
    plans = _plans(options.suite, options.prototype)
    wanted = options.only.split(",") if options.only else list(plans)
    if unknown := set(wanted) - plans.keys():
        raise SystemExit(
            f"no measurement {', '.join(sorted(unknown))}; there are {', '.join(plans)}"
        )
    folder = Path(tempfile.mkdtemp(prefix="mesa-results-", dir="/var/tmp"))
    measured, failed = [], []
    for name in wanted:
        output = folder / f"{name}.json"
        print(f"== {name}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", *plans[name], "--json", str(output)]
        command += ["--quick"] * options.quick
        command += ["--rounds", str(options.rounds)] if options.rounds else []
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        if output.exists():
            measured.append(output)
    status = _report(options, folder, measured)
    if failed:
        print(f"did not come through: {', '.join(failed)}", file=sys.stderr)
    return status or bool(failed)


def _plans(suite: Path, prototype: Path) -> dict[str, list[str]]:
    """Module and arguments of each measurement, the short ones first."""
    latency = ["measuring.latency", "--prototype", str(prototype)]
    first_byte = ["measuring.first_byte", "--suite", str(suite)]
    return {
        "latency": latency,
        "latency-one-cpu": [*latency, "--cpu", "0"],
        "first-byte": first_byte,
        "first-byte-own-disk": [*first_byte, "--scratch", OWN_DISK],
        "workloads": ["measuring.workloads", "--suite", str(suite)],
    }


def _report(options: argparse.Namespace, folder: Path, measured: list[Path]) -> int:
    if not measured:
        print("nothing was measured", file=sys.stderr)
        return 1
    target, page = results.RESULTS, report.PAGE
    if options.quick or options.json:
        target = options.json or folder / "results.json"
        page = target.with_suffix(".md")
    command = [sys.executable, "-m", "measuring.report", "--json", str(target), "--page", str(page)]
    status = subprocess.run([*command, *map(str, measured)], check=False).returncode
    print(f"results: {target}\npage: {page}\nsamples: {folder}")
    return status


if __name__ == "__main__":
    sys.exit(main())
