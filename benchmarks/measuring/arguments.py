"""What every measurement takes from the command line, and the file that it leaves."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measuring.environment import environment


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick", action="store_true", help="smaller inputs, one round: a first look"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often everything is repeated")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every sample to this file")
    parser.add_argument(
        "--scratch", type=Path, metavar="DIR", help="where to measure (a new ext4 in a file)"
    )


def rounds_of(options: argparse.Namespace, *, full: int) -> int:
    rounds: int = options.rounds or (1 if options.quick else full)
    return rounds


def finish(options: argparse.Namespace, kind: str, rounds: int, result: dict[str, Any]) -> int:
    """Write the samples where they are wanted; the exit status of a measurement that came through."""
    if options.json:
        facts = {"kind": kind, "environment": environment(), "quick": options.quick}
        document = {**result, **facts, "rounds": rounds}
        options.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return 0
