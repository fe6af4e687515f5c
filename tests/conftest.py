"""Needs, and what happens when they are not met; system tests take turns with the machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from support.capabilities import CAPABILITIES, present

_MISSING = "missing"
_REQUIRED = frozenset(filter(None, os.environ.get("MESA_REQUIRE", "").split(",")))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(name): what the machine must have; see support")
    if unknown := _REQUIRED - CAPABILITIES.keys():
        known = ", ".join(CAPABILITIES)
        raise pytest.UsageError(f"MESA_REQUIRE names {', '.join(unknown)}; known are {known}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("system") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("machine"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own MESA_API_KEY and the like reach no test."""
    for name in os.environ:
        if name.startswith("MESA_") and name != "MESA_REQUIRE":
            monkeypatch.delenv(name)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            if not present(name):
                item.user_properties.append((_MISSING, name))
                pytest.skip(f"no {name}: {CAPABILITIES[name].remedy}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    missing = {name for kind, name in item.user_properties if kind == _MISSING}
    _forbid_skip(report, missing)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report, set())
    return report


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport, missing: set[Any]) -> None:
    """Under MESA_REQUIRE only the lack of something that is not required excuses a skip."""
    if not _REQUIRED or not report.skipped or hasattr(report, "wasxfail"):
        return
    if missing and not missing & _REQUIRED:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"skipped, and MESA_REQUIRE={','.join(sorted(_REQUIRED))}: {reason}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts = Counter(
        name
        for report in terminalreporter.stats.get("skipped", [])
        for kind, name in getattr(report, "user_properties", [])
        if kind == _MISSING
    )
    if counts:
        terminalreporter.section("left out on this machine")
    for name, count in counts.most_common():
        terminalreporter.line(
            f"{count} tests need {name}: {CAPABILITIES[name].remedy}", yellow=True
        )
