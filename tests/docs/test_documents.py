"""What the documents name exists: links, commands, tests; and they name no machine of ours."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "changelog.d").glob("*.md"),
    ]
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _anchors(document: Path) -> set[str]:
    """The anchors that a hosting site makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(document.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_document_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in _LINK.findall(index.read_text())}

    missing = {path for path in (ROOT / "docs").rglob("*.md") if path != index} - linked

    assert {str(path.relative_to(ROOT)) for path in missing} == set()


def test_every_script_that_a_document_names_can_be_run() -> None:
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(
            r"(?<![\w/.])((?:scripts|\.ci|examples)/[\w/.-]*\w)", document.read_text()
        )
    }

    assert {"scripts/quickstart", "scripts/test", "scripts/check"} <= named
    assert {name for name in named if not os.access(ROOT / name, os.X_OK)} == set()


def test_the_readme_fits_on_a_screen_and_names_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    first_block = text.split("```")[1]

    assert len(text.splitlines()) <= 50
    assert [line.split()[0] for line in first_block.splitlines()[1:]] == [
        "scripts/quickstart",
        "scripts/test",
    ]


def test_every_proof_is_a_test() -> None:
    text = (ROOT / "docs" / "design" / "durability.md").read_text()
    proofs = _TEST.findall(text)

    unknown = [f"{file}::{name}" for file, name in proofs if name not in _tests(ROOT / file)]

    assert proofs
    assert unknown == []


def _tests(file: Path) -> set[str]:
    if not file.exists():
        return set()
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_locks_carry_hashes_and_no_address() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text
        assert "--index" not in text
        packages = re.findall(r"^[a-z0-9]\S*==", text, re.MULTILINE)
        assert len(packages) > 1
        assert text.count("--hash=sha256:") >= len(packages)


def test_the_setting_words_of_the_readme_stand_in_the_guide() -> None:
    guide = "".join(path.read_text() for path in (ROOT / "docs" / "guide").glob("*.md"))

    for name in ("MESA_API_KEY", "MESA_ORG", "MESA_API_URL", "MESA_MOUNT_POINT", "MESA_CA_FILE"):
        assert name in guide


def test_the_reference_of_the_command_is_what_the_command_says() -> None:
    check = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (check.returncode, check.stderr) == (0, "")
