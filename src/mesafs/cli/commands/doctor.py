"""``mesa doctor``: what this machine has for a mount, what it lacks, and the remedy for each."""

from __future__ import annotations

import argparse
from typing import Any

from mesafs.cli.arguments import add_json
from mesafs.cli.context import Context
from mesafs.cli.running_mounts import RunningMounts
from mesafs.mount import doctor
from mesafs.mount.doctor import Finding, Verdict


def configure(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    places = RunningMounts.of(arguments, context).places
    findings = doctor.examine(lambda: context.config(arguments), places)
    if arguments.json:
        context.output.json({"findings": [_as_data(finding) for finding in findings]})
    else:
        for finding in findings:
            context.output.line(f"{finding.verdict.value:4}  {finding.check}: {finding.detail}")
            if finding.remedy and finding.verdict is not Verdict.OK:
                context.output.line(f"      {finding.remedy}")
    return 1 if any(finding.verdict is Verdict.FAIL for finding in findings) else 0


def _as_data(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "verdict": finding.verdict.value,
        "detail": finding.detail,
        "remedy": finding.remedy,
    }
