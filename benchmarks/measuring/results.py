"""The committed results: one document for each kind of measurement, and how they are merged.

Two measurements of one kind on different kinds of disk stand beside each other; a new one replaces
the old one of its kind and disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring.neighbours import ROOT

RESULTS = ROOT / "benchmarks" / "results.json"

Document = dict[str, Any]


def load(path: Path) -> list[Document]:
    """All documents of a results file; none where there is no file yet."""
    if not path.exists():
        return []
    documents: list[Document] = json.loads(path.read_text())["measurements"]
    return documents


def save(path: Path, documents: Sequence[Document]) -> None:
    text = json.dumps({"measurements": list(documents)}, indent=1, sort_keys=True)
    path.write_text(text + "\n")


def merge(known: Sequence[Document], new: Sequence[Document]) -> list[Document]:
    merged = {_key(document): document for document in (*known, *map(_rounded, new))}
    return [merged[key] for key in sorted(merged)]


def of_kind(documents: Sequence[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def _key(document: Document) -> tuple[str, str, bool]:
    return document["kind"], document["disk"], document.get("pinned", False)


def _rounded(value: Any) -> Any:
    """Microseconds are enough, and keep the differences of the file readable."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value
