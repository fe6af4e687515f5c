"""What was promised, and how each promise stands against the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from measuring.results import Document, of_kind
from measuring.samples import Spread, ratios


@dataclass(frozen=True, slots=True)
class Target:
    """``need`` is what the median must reach; ``at_least`` turns the comparison round."""

    what: str
    measured: Spread
    need: float
    unit: str
    digits: int = 2
    at_least: bool = False

    @property
    def met(self) -> bool:
        median = self.measured.median
        return median >= self.need if self.at_least else median <= self.need

    @property
    def distance(self) -> float:
        """How many times off; above 1 is missed."""
        measured = max(self.measured.median, 1e-9)
        return self.need / measured if self.at_least else measured / self.need

    def wanted(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.need:g} {self.unit}"

    def shown(self) -> str:
        return f"{self.measured.shown(self.digits)} {self.unit}"


def targets(documents: Sequence[Document]) -> list[Target]:
    """All that can be judged, those that are missed first, the worst of them on top."""
    found = [
        *(target for document in of_kind(documents, "first-byte") for target in _first(document)),
        *(target for document in of_kind(documents, "latency") for target in _latency(document)),
    ]
    return sorted(found, key=lambda target: (target.met, -target.distance))


def _first(document: Document) -> Iterator[Target]:
    disk = document["disk"]
    files = f"{document['files']:,} files"
    sooner = ratios(document["seconds"], "git clone", "mesa")
    what = f"first byte of a file among {files} against `git clone` ({disk})"
    yield Target(what, Spread.of(sooner), 20, "times sooner", 1, at_least=True)
    listing = Spread.of(document["listing_seconds"])
    yield Target(f"cold listing of {files} with attributes ({disk})", listing, 1, "s", 2)


def _latency(document: Document) -> Iterator[Target]:
    where = " (one CPU)" if document["pinned"] else ""
    steps = document["steps"]
    for what, step in (
        ("warm stat", "stat"),
        ("warm read, opened and closed each time", "open+read+close"),
        ("warm read of an open file", "read of an open file"),
        ("`git status`", "git status"),
    ):
        spread = Spread.of(ratios(steps[step], "mesa", "ext4"))
        yield Target(f"{what}{where}", spread, 1.3, "times ext4")
    create = Spread.of(ratios(steps["create+write+close"], "mesa", "prototype"))
    yield Target(f"create, write, close{where}", create, 1.5, "times the prototype")
    if document["pinned"]:
        return
    listed = f"{document['sizes']['listed']:,}"
    memory = Spread.of([document["memory_bytes"] / 1e6])
    yield Target(f"memory of the daemon after listing {listed} files", memory, 120, "MB", 0)
    starts = Spread.of([seconds * 1000 for seconds in document["version_seconds"]])
    yield Target("`mesa version`", starts, 60, "ms", 0)
    archive = Spread.of([document["archive_bytes"] / 1e6])
    yield Target("size of the client archive", archive, 1, "MB")
