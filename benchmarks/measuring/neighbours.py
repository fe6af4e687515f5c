"""What lies beside the checkout and is only run, never imported: the shared suite and the prototype."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


def suite_program(suite: Path, name: str) -> Path:
    """A program of the suite; ends with the remedy where there is none."""
    return _present(suite / name, "the shared workloads", "--suite DIR")


def prototype_program(prototype: Path) -> Path:
    return _present(prototype, "the prototype of the FUSE layer", "--prototype FILE")


def _present(program: Path, what: str, option: str) -> Path:
    if not program.is_file():
        raise SystemExit(
            f"{program} is missing: {what} lie beside the checkout, in ../shared, "
            f"or where {option} says"
        )
    return program.resolve()
