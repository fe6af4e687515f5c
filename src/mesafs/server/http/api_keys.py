"""``/v1/{org}/api-keys``."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from mesafs.model.ids import ApiKeyId
from mesafs.server.backing import Backing
from mesafs.server.http.answers import answer, json_answer
from mesafs.server.http.bodies import fit
from mesafs.server.http.paging import Cursors
from mesafs.server.http.queries import Query
from mesafs.server.http.routing import Access, Body, Call, Route
from mesafs.server.services.keys import Keys
from mesafs.store.keys import KeyRow
from mesafs.wire.api_keys import ApiKey, ApiKeyPage, CreatedApiKey, NewApiKey
from mesafs.wire.organisations import Success
from mesafs.wire.shapes import moment

_STATUSES = ("active", "revoked", "expired", "all")
_SCOPES = ("read", "write", "admin")


@dataclass(frozen=True, slots=True)
class _TagEdits:
    tags: dict[str, str | None]


def routes(backing: Backing) -> list[Route]:
    keys, cursors = Keys(backing), Cursors(backing)

    def list_keys(call: Call) -> Response:
        query = Query(call.request.scope["query_string"])
        contains = query.filled("query")
        status = query.choice("status", _STATUSES, default="all") or "all"
        scope = query.choice("scope", _SCOPES, default=None)
        repository = query.filled("repo_id")
        paging = cursors.paging(
            query, call.principal, "api-keys", (contains, status, scope, repository)
        )
        query.finish()
        rows = keys.list(
            call.principal,
            after=paging.after or "",
            limit=paging.limit + 1,
            name_contains=contains,
            status=status,
            scope=scope,
            repository=repository,
        )
        more, rows = len(rows) > paging.limit, rows[: paging.limit]
        cursor = paging.cursor(rows[-1].id if rows else None, more=more)
        return answer(ApiKeyPage(cursor, more, tuple(_shown(row) for row in rows)))

    def create(call: Call) -> Response:
        body = fit(NewApiKey, call.body)
        row, made = keys.create(
            call.principal,
            name=body.name,
            scopes=body.scopes,
            repository_ids=body.repo_ids,
            expires_in_seconds=body.expires_in_seconds,
            tags=body.tags or {},
        )
        created = CreatedApiKey(
            id=row.id,
            key=made.text,
            name=row.name,
            scopes=row.scope_names,
            repo_ids=_repositories(row),
            tags=row.tags,
            created_at=moment(row.created_ns),
        )
        return answer(created, 201)

    def revoke(call: Call) -> Response:
        keys.revoke(call.principal, ApiKeyId(call.segments["id"]))
        return answer(Success())

    def update(call: Call) -> Response:
        body = fit(_TagEdits, call.body)
        tags = keys.change_tags(call.principal, ApiKeyId(call.segments["id"]), body.tags)
        return json_answer({"tags": tags})

    path = "/v1/{org}/api-keys"
    return [
        Route("GET", path, "listApiKeys", Access.ADMIN, list_keys),
        Route("POST", path, "createApiKey", Access.ADMIN, create, Body.JSON),
        Route("DELETE", path + "/{id}", "revokeApiKey", Access.ADMIN, revoke),
        Route("PATCH", path + "/{id}", "updateApiKey", Access.ADMIN, update, Body.JSON),
    ]


def _shown(row: KeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=row.scope_names,
        repo_ids=_repositories(row),
        metadata=row.metadata,
        tags=row.tags,
        last_used_at=None if row.last_used_ns is None else moment(row.last_used_ns),
        expires_at=None if row.expires_ns is None else moment(row.expires_ns),
        revoked_at=None if row.revoked_ns is None else moment(row.revoked_ns),
        created_at=moment(row.created_ns),
    )


def _repositories(row: KeyRow) -> tuple[str, ...] | None:
    return None if row.repositories is None else tuple(sorted(row.repositories))
