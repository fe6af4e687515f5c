"""``/v1/{org}/{repo}/diff`` in JSON."""

from __future__ import annotations

from base64 import b64encode
from typing import cast

from starlette.responses import Response

from mesafs.model.ids import parse_change_id
from mesafs.model.paths import to_text
from mesafs.server.backing import Backing
from mesafs.server.http.answers import answer
from mesafs.server.http.negotiation import JSON_TYPE, preferred
from mesafs.server.http.queries import Query
from mesafs.server.http.routing import Access, Call, Route
from mesafs.server.services.diffs import Contested, Difference, Diffs, Which
from mesafs.vcs.diff import ConflictHunk as FoundHunk
from mesafs.vcs.diff import FileDiff, Line
from mesafs.wire.diffs import (
    ConflictedEntry,
    ConflictHunk,
    ConflictSide,
    Diff,
    DiffEntry,
    DiffHunk,
    DiffLine,
    DiffStats,
)


def routes(backing: Backing) -> list[Route]:
    diffs = Diffs(backing)

    def get(call: Call) -> Response:
        query = Query(call.request.scope["query_string"])
        base = parse_change_id(query.required("base_change_id"), field="base_change_id")
        head = parse_change_id(query.required("head_change_id"), field="head_change_id")
        which = query.choice("conflicts", ("include", "only", "exclude"), default="include")
        query.finish()
        preferred(call.request, (JSON_TYPE,))
        found = diffs.get(
            call.principal,
            call.segments["repo"],
            base=base,
            head=head,
            conflicts=cast("Which", which),
        )
        return answer(
            Diff(
                base_change_id=base,
                head_change_id=head,
                stats=_stats(found),
                truncated=found.tree.truncated,
                entries=tuple(_entry(file) for file in found.tree.files),
                conflicted_entries=tuple(_contested(each) for each in found.contested),
            )
        )

    return [Route("GET", "/v1/{org}/{repo}/diff", "getDiff", Access.READ, get)]


def _stats(found: Difference) -> DiffStats:
    added, deleted = found.tree.additions, found.tree.deletions
    return DiffStats(
        entries=len(found.tree.files),
        additions=added,
        deletions=deleted,
        changes=added + deleted,
        conflicted_entries=len(found.contested),
        conflicted_hunks=sum(len(each.hunks) for each in found.contested),
    )


def _entry(file: FileDiff) -> DiffEntry:
    hunks = None
    if file.hunks is not None:
        hunks = tuple(
            DiffHunk(
                hunk.old_start,
                hunk.old_lines,
                hunk.new_start,
                hunk.new_lines,
                tuple(_line(line) for line in hunk.lines),
            )
            for hunk in file.hunks
        )
    return DiffEntry(
        path=to_text(file.path),
        status=file.status,
        old_path=None if file.old_path is None else to_text(file.old_path),
        is_conflicted=False,
        omitted_reason=file.omitted_reason,
        hunks=hunks,
        conflict_hunks=None,
        size_bytes=file.size_bytes,
    )


def _line(line: Line) -> DiffLine:
    """A line without its end; what is not UTF-8 in it is shown as a replacement character."""
    text = line.text.decode("utf-8", "replace")
    return DiffLine(line.kind, text.strip("\n") if line.kind == "annotation" else _chomped(text))


def _chomped(text: str) -> str:
    return text.removesuffix("\n")


def _contested(entry: Contested) -> ConflictedEntry:
    return ConflictedEntry(to_text(entry.path), tuple(_conflict_hunk(hunk) for hunk in entry.hunks))


def _conflict_hunk(hunk: FoundHunk) -> ConflictHunk:
    return ConflictHunk(
        hunk.hunk_id,
        hunk.old_start,
        hunk.old_lines,
        hunk.new_start,
        hunk.new_lines,
        _side(hunk.target),
        _side(hunk.base),
        _side(hunk.source),
    )


def _side(content: bytes | None) -> ConflictSide | None:
    return None if content is None else ConflictSide(b64encode(content).decode())
