"""The page of results, made of the committed numbers alone: the same numbers, the same page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from measuring.results import Document, of_kind
from measuring.samples import Samples, Spread, ratios
from measuring.targets import targets

_HEAD = """\
# Benchmarks

Made by `benchmarks/report` from `benchmarks/results.json`; losing rows come first everywhere.
A number is a median, with the least and the most of all rounds in brackets. A ratio is taken within
one round, in which all targets have their turn back to back; only ratios of one run mean something.
"""

_REPEAT = """\
## To repeat

```sh
benchmarks/run                    # everything, about a quarter of an hour, on a machine that does nothing else
benchmarks/run --quick            # smaller inputs, one round: does it work
benchmarks/latency --rounds 5 --json latency.json
benchmarks/first_byte --rounds 5 --json first-byte.json
benchmarks/first_byte --rounds 5 --scratch /var/tmp --json first-byte-own-disk.json
benchmarks/workloads --rounds 5 --json workloads.json
benchmarks/report latency.json    # takes them into benchmarks/results.json, and makes this page
```

The workloads and the prototype lie beside the checkout, in `../shared`; `--suite` and `--prototype`
name another place. As root everything lies on a new ext4 in a file, so that what a used disk has to
tidy up is not measured; `--scratch DIR` measures a disk as it is.
"""

_OPERATIONS = (
    "Loops over small files: {created:,} to create, {warm:,} to stat and read. The prototype is the "
    "sketch of the FUSE layer over a plain folder, its state journal on; it publishes nothing. "
    "Below 1 is faster than ext4."
)
_FIRST_BYTE = (
    "From an empty directory to the first byte of one file, git over loopback. The daemon starts in "
    "that time too, and afterwards shows every file; a blobless clone has the one."
)


def page(documents: Sequence[Document]) -> str:
    sections = [_HEAD, *_warning(documents), _machine(documents), _targets(documents)]
    sections += [_operations(document) for document in of_kind(documents, "latency")]
    sections += [_first_byte(document) for document in of_kind(documents, "first-byte")]
    sections += [_workloads(document) for document in of_kind(documents, "workloads")]
    return "\n".join([*sections, _REPEAT])


def _warning(documents: Sequence[Document]) -> Iterator[str]:
    if any(document["quick"] for document in documents):
        yield "**Some of this is from a quick run: it shows that the benchmarks work, nothing else.**\n"


def _machine(documents: Sequence[Document]) -> str:
    lines = {
        "Measured {date} on Linux {kernel}, {architecture}, {cores} cores, {memory_gib} GiB, "
        "Python {python}, git {git}, mesafs {mesafs}.".format(**document["environment"])
        for document in documents
        if not document.get("pinned")
    }
    return "\n".join(sorted(lines)) + "\n"


def _targets(documents: Sequence[Document]) -> str:
    rows = [
        (target.what, target.wanted(), target.shown(), "met" if target.met else "**missed**")
        for target in targets(documents)
    ]
    return _section("Targets", None, ("what", "to reach", "measured", ""), rows)


def _operations(document: Document) -> str:
    place = "on one CPU" if document["pinned"] else "on all CPUs"
    rows = []
    for step, samples in _worst_first(document["steps"]):
        base = Spread.of(samples["ext4"]).shown(1, 1000)
        rows.append((step, base, *(_ratio(samples, name) for name in ("mesa", "prototype"))))
    head = ("operation", "ext4, ms", "mesa, times ext4", "prototype, times ext4")
    text = f"{_OPERATIONS.format(**document['sizes'])} {_disk(document)}"
    return _section(f"Single operations, {place}", text, head, rows)


def _first_byte(document: Document) -> str:
    seconds = document["seconds"]
    rows = [
        (name, Spread.of(samples).shown(2), Spread.of(ratios(seconds, "git clone", name)).shown(1))
        for name, samples in sorted(seconds.items(), key=lambda item: Spread.of(item[1]).median)
    ]
    text = f"{_FIRST_BYTE} {_disk(document)}"
    head = ("way", "seconds", "times sooner than `git clone`")
    moved = [(stage, document["moved"][stage]) for stage in ("mount", "first read", "second read")]
    moved.append(("mount, and listing all", document["listing_moved"]))
    traffic = _table(
        ("step of a new client", "requests", "bytes from the server"),
        [(name, f"{own['requests']:,}", f"{own['sent_bytes']:,}") for name, own in moved],
    )
    mount = Spread.of(document["mount_seconds"]).shown(2)
    return "\n".join((
        _section(f"First byte among {document['files']:,} files: {document['disk']}", text, head, rows),
        f"`mesa mount --daemonize` returns after {mount} s.\n",
        traffic,
    ))  # fmt: skip


def _workloads(document: Document) -> str:
    steps = {
        step: own
        for step, own in document["steps"].items()
        if "mesa" in own and ratios(own, "mesa", "ext4")
    }
    names = ["mesa"]
    if any("mesa-no-passthrough" in own for own in steps.values()):
        names.append("mesa-no-passthrough")
    rows = [
        (f"`{step}`", Spread.of(own["ext4"]).shown(1, 1000), *(_ratio(own, name) for name in names))
        for step, own in _worst_first(steps)
    ]
    problems = [f"- {what}: {why}" for what, why in sorted(document["problems"].items())]
    head = ("step", "ext4, ms", *(f"{name}, times ext4" for name in names))
    text = "What coding agents do, by the shared suite; every result was compared with what was written. "
    text += "Before each cold step the kernel forgets everything and ours is mounted anew. "
    if problems:
        text = "\n".join(("Not finished:", "", *problems, "", text))
    return _section("Workloads", text + _disk(document), head, rows)


def _disk(document: Document) -> str:
    return f"Disk: {document['disk']}. Rounds: {document['rounds']}."


def _worst_first(steps: dict[str, Any]) -> list[tuple[str, Any]]:
    def worst(item: tuple[str, Any]) -> tuple[float, str]:
        step, samples = item
        return -Spread.of(ratios(samples, "mesa", "ext4")).median, step

    return sorted(steps.items(), key=worst)


def _ratio(samples: Samples, name: str) -> str:
    paired = ratios(samples, name, "ext4") if name in samples else []
    return Spread.of(paired).shown() if paired else "-"


def _section(
    title: str, text: str | None, head: Sequence[str], rows: Iterable[Sequence[str]]
) -> str:
    body = [f"## {title}", "", *([text, ""] if text else []), _table(head, rows)]
    return "\n".join(body)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(head), "|" + "---|" * len(head), *map(_row, rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
