"""``mesa diff BASE HEAD``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mesafs.cli.arguments import add_json, add_repository, organisation_and_name
from mesafs.cli.context import Context
from mesafs.wire.diffs import Diff, DiffEntry

_SIGNS = {"context": " ", "added": "+", "deleted": "-", "annotation": "\\"}


def configure(parser: argparse.ArgumentParser) -> None:
    add_repository(parser)
    parser.add_argument("base", metavar="BASE", help="a change id")
    parser.add_argument("head", metavar="HEAD", help="a change id")
    parser.add_argument("--name-only", action="store_true", help="only the paths")
    add_json(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    org, repo = organisation_and_name(arguments.repo)
    with context.client(arguments) as mesa:
        diff = mesa.diffs.get(
            org=org, repo=repo, base_change_id=arguments.base, head_change_id=arguments.head
        )
    if arguments.json:
        context.output.json(diff.to_json())
        return 0
    if arguments.name_only:
        paths = [entry.path for entry in diff.entries]
        paths += [conflicted.path for conflicted in diff.conflicted_entries]
        for path in sorted(paths):
            context.output.line(path)
    else:
        context.output.text("".join(_text(diff)))
    if diff.truncated:
        context.output.note("the server left out the rest of this diff: it is too large")
    return 0


def _text(diff: Diff) -> Iterator[str]:
    for entry in diff.entries:
        yield from _entry(entry)
    for conflicted in diff.conflicted_entries:
        yield f"conflict {conflicted.path}: {len(conflicted.hunks)} hunks\n"


def _entry(entry: DiffEntry) -> Iterator[str]:
    old = "/dev/null" if entry.status == "added" else f"a/{entry.old_path or entry.path}"
    new = "/dev/null" if entry.status == "deleted" else f"b/{entry.path}"
    yield f"{entry.status} {entry.path}\n"
    if entry.omitted_reason is not None:
        yield f"  not shown: {entry.omitted_reason}\n"
        return
    yield f"--- {old}\n+++ {new}\n"
    for hunk in entry.hunks or ():
        yield f"@@ -{hunk.old_start},{hunk.old_lines} +{hunk.new_start},{hunk.new_lines} @@\n"
        for line in hunk.lines:
            yield _SIGNS[line.kind] + line.text.removesuffix("\n") + "\n"
