"""``/v1/{org}/{repo}/changes``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from starlette.responses import Response

from mesafs.base.errors import Invalid
from mesafs.model.ids import CommitId, parse_change_id, parse_object_id
from mesafs.model.objects import Signature
from mesafs.model.paths import from_text, parse, to_text
from mesafs.server.backing import Backing
from mesafs.server.http.answers import answer
from mesafs.server.http.bodies import decode_base64, fit
from mesafs.server.http.paging import Cursors
from mesafs.server.http.queries import Query
from mesafs.server.http.routing import Access, Body, Call, Route
from mesafs.server.services.authorship import Who
from mesafs.server.services.changes import Changes, Edits
from mesafs.server.services.projection import Projection
from mesafs.server.unsupported import Unsupported
from mesafs.store.changes import ChangeRow
from mesafs.vcs.trees import Delete, FileOperation, Upsert
from mesafs.wire.changes import Author, Change, ChangeDetail, ChangePage, FileDelete, FileUpsert
from mesafs.wire.shapes import moment


@dataclass(frozen=True, slots=True)
class _NewChange:
    base_change_id: str
    message: str | None = None
    author: Author | None = None
    committer: Author | None = None
    files: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class _ChangeUpdate:
    message: str | None = None
    author: Author | None = None
    committer: Author | None = None
    files: tuple[Any, ...] | None = None
    base_commit_oid: str | None = None
    resolutions: tuple[Any, ...] | None = None


def routes(backing: Backing, projection: Projection) -> list[Route]:
    changes, cursors = Changes(backing, projection), Cursors(backing)

    def list_changes(call: Call) -> Response:
        query = Query(call.request.scope["query_string"])
        repository, bookmark = call.segments["repo"], query.filled("bookmark")
        paging = cursors.paging(query, call.principal, "changes", (repository, bookmark))
        query.finish()
        rows, frontier = changes.list(
            call.principal,
            repository,
            bookmark=bookmark,
            frontier=paging.after,
            limit=paging.limit,
        )
        more = bool(frontier)
        page = tuple(_shown(row) for row in rows)
        return answer(ChangePage(paging.cursor(frontier, more=more), more, page))

    def create(call: Call) -> Response:
        body = fit(_NewChange, call.body)
        row = changes.create(
            call.principal,
            call.segments["repo"],
            base=parse_change_id(body.base_change_id, field="base_change_id"),
            edits=Edits(body.message, _who(body.author), _who(body.committer), _files(body.files)),
        )
        return answer(_shown(row), 201)

    def get(call: Call) -> Response:
        Query(call.request.scope["query_string"]).finish()
        change = parse_change_id(call.segments["change"])
        details = changes.get(call.principal, call.segments["repo"], change)
        return answer(
            ChangeDetail(
                **_members(details.row),
                files=tuple(to_text(path) for path in details.files),
                conflicts=tuple(to_text(path) for path in details.conflicts),
            )
        )

    def update(call: Call) -> Response:
        body = fit(_ChangeUpdate, call.body)
        if body.resolutions is not None:
            if body.files is not None:
                raise Invalid("files and resolutions exclude each other")
            raise Unsupported("resolutions")
        base = body.base_commit_oid
        row = changes.amend(
            call.principal,
            call.segments["repo"],
            parse_change_id(call.segments["change"]),
            edits=Edits(body.message, _who(body.author), _who(body.committer), _files(body.files)),
            base_commit=None
            if base is None
            else CommitId(parse_object_id(base, field="base_commit_oid")),
        )
        return answer(_shown(row))

    path = "/v1/{org}/{repo}/changes"
    return [
        Route("GET", path, "listChanges", Access.READ, list_changes),
        Route("POST", path, "createChange", Access.WRITE, create, Body.JSON),
        Route("GET", path + "/{change}", "getChange", Access.READ, get),
        Route("PATCH", path + "/{change}", "updateChange", Access.WRITE, update, Body.JSON),
    ]


def _shown(row: ChangeRow) -> Change:
    return Change(**_members(row))


def _members(row: ChangeRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "current_commit_oid": row.commit.hex(),
        "is_conflicted": row.conflicted,
        "message": row.message,
        "author": _author(row.author),
        "committer": _author(row.committer),
        "parents": row.parents,
        "created_at": moment(row.created_ns),
        "updated_at": moment(row.updated_ns),
    }


def _author(who: Signature) -> Author:
    zone = timezone(timedelta(minutes=who.offset_minutes))
    return Author(who.name, who.email, datetime.fromtimestamp(who.seconds, zone))


def _who(author: Author | None) -> Who | None:
    return None if author is None else Who(author.name, author.email, author.date)


def _files(items: Sequence[Any] | None) -> list[FileOperation] | None:
    if items is None:
        return None
    return [_operation(item, f"files[{at}]") for at, item in enumerate(items)]


def _operation(item: Any, where: str) -> FileOperation:
    if not isinstance(item, dict):
        raise Invalid(f"{where} is not an object")
    try:
        if item.get("action") == "delete":
            return Delete(parse(from_text(fit(FileDelete, item).path)))
        upsert = fit(FileUpsert, item)
        return Upsert(
            parse(from_text(upsert.path)),
            decode_base64(upsert.content, field="content"),
            None if upsert.mode is None else int(upsert.mode, 8),
        )
    except Invalid as error:
        raise Invalid(f"{where}: {error.message}", hint=error.hint, code=error.code) from None
