"""The page that tells people what works says what the tests drive."""

from __future__ import annotations

from pathlib import Path

import mesafs.sync
from support.published_surface import OPERATIONS, PYTHON_ONLY, TYPESCRIPT_ONLY

PAGE = Path(__file__).parents[2] / "docs/compatibility.md"


def rows_under(heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without code marks."""
    section = PAGE.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_the_page_lists_all_32_operations_with_their_states() -> None:
    assert len(OPERATIONS) == 32
    assert rows_under("Operations") == [
        [
            each.call,
            each.state,
            ours(each.python) if each.state == "works" else "-",
            each.python or "-",
            each.typescript or "-",
            each.rest,
        ]
        for each in OPERATIONS
    ]


def test_the_page_lists_the_methods_that_are_no_operation() -> None:
    assert rows_under("Methods that are no operation of their own") == [
        *([name, "Python", state] for name, state in PYTHON_ONLY.items()),
        *([name, "TypeScript", state] for name, state in TYPESCRIPT_ONLY.items()),
    ]


def ours(method: str | None) -> str:
    """The method of our own client under the same name."""
    if method is None:
        return "-"
    with mesafs.sync.Mesa(api_key="mesa_x", org="acme") as mesa:
        found: object = mesa
        for name in method.split("."):
            found = getattr(found, name)
        assert callable(found)
    return method
