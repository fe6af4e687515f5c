"""What a kill test did is told at the end of the run: seed, rounds, and how often each fault struck."""

from __future__ import annotations

from typing import Any

TOLD = "told at the end"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    told = [
        str(text)
        for reports in terminalreporter.stats.values()
        for report in reports
        for kind, text in getattr(report, "user_properties", [])
        if kind == TOLD and report.when == "call"
    ]
    if told:
        terminalreporter.section("kills and power cuts")
    for text in told:
        terminalreporter.line(text)
