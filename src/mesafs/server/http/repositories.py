"""``/v1/{org}/repos`` and ``/v1/{org}/{repo}``."""

from __future__ import annotations

from starlette.responses import Response

from mesafs.base.errors import Invalid
from mesafs.server.backing import Backing
from mesafs.server.http.answers import answer
from mesafs.server.http.bodies import fit
from mesafs.server.http.paging import Cursors
from mesafs.server.http.queries import Query
from mesafs.server.http.routing import Access, Body, Call, Route
from mesafs.server.services.projection import Projection
from mesafs.server.services.repositories import Repositories, Repository
from mesafs.server.unsupported import Unsupported
from mesafs.wire.organisations import Success
from mesafs.wire.repositories import NewRepo, Repo, RepoPage, RepoUpdate
from mesafs.wire.shapes import moment


def routes(backing: Backing, projection: Projection) -> list[Route]:
    repositories, cursors = Repositories(backing, projection), Cursors(backing)

    def list_repositories(call: Call) -> Response:
        query = Query(call.request.scope["query_string"])
        tags = _tag_filter(query.filled("tags"))
        paging = cursors.paging(query, call.principal, "repos", tags)
        query.finish()
        found = repositories.list(
            call.principal, after=paging.after or "", limit=paging.limit + 1, tags=tags
        )
        more, found = len(found) > paging.limit, found[: paging.limit]
        cursor = paging.cursor(found[-1].row.id if found else None, more=more)
        return answer(RepoPage(cursor, more, tuple(_shown(each) for each in found)))

    def create(call: Call) -> Response:
        body = fit(NewRepo, _without_upstream(call.body))
        created = repositories.create(
            call.principal,
            name=body.name,
            default_bookmark=body.default_bookmark,
            tags=body.tags or {},
        )
        return answer(_shown(created), 201)

    def get(call: Call) -> Response:
        Query(call.request.scope["query_string"]).finish()
        return answer(_shown(repositories.get(call.principal, call.segments["repo"])))

    def update(call: Call) -> Response:
        body = fit(RepoUpdate, _without_upstream(call.body))
        updated = repositories.update(
            call.principal,
            call.segments["repo"],
            name=body.name,
            default_bookmark=body.default_bookmark,
            tags=body.tags,
        )
        return answer(_shown(updated))

    def delete(call: Call) -> Response:
        repositories.delete(call.principal, call.segments["repo"])
        return answer(Success())

    many, one = "/v1/{org}/repos", "/v1/{org}/{repo}"
    return [
        Route("GET", many, "listRepos", Access.READ, list_repositories),
        Route("POST", many, "createRepo", Access.WRITE, create, Body.JSON),
        Route("GET", one, "getRepo", Access.READ, get),
        Route("PATCH", one, "updateRepo", Access.WRITE, update, Body.JSON),
        Route("DELETE", one, "deleteRepo", Access.WRITE, delete),
    ]


def _shown(repository: Repository) -> Repo:
    row = repository.row
    return Repo(
        id=row.id,
        org=row.organisation_slug,
        name=row.name,
        default_bookmark=row.default_bookmark,
        head_change_id=repository.head,
        upstream=None,
        created_at=moment(row.created_ns),
        tags=row.tags,
    )


def _without_upstream(body: object) -> object:
    """Upstreams come with mirroring; taking one away where there can be none is no error."""
    if not isinstance(body, dict) or "upstream" not in body:
        return body
    if body["upstream"] is not None:
        raise Unsupported("upstream")
    return {name: value for name, value in body.items() if name != "upstream"}


def _tag_filter(text: str | None) -> list[tuple[str, str]]:
    """``key:value`` pairs separated by commas, all of which must hold."""
    if text is None:
        return []
    if text.startswith("{"):
        raise Unsupported("the JSON form of the filter tags")
    pairs = [part.partition(":") for part in text.split(",")]
    if len(pairs) > 32 or not all(colon and key for key, colon, _ in pairs):
        raise Invalid("tags must be key:value pairs separated by commas, at most 32")
    return [(key.lower(), value) for key, _, value in pairs]
