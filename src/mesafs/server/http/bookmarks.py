"""``/v1/{org}/{repo}/bookmarks``."""

from __future__ import annotations

from starlette.responses import Response

from mesafs.model.ids import parse_change_id
from mesafs.server.backing import Backing
from mesafs.server.http.answers import answer
from mesafs.server.http.bodies import fit
from mesafs.server.http.paging import Cursors
from mesafs.server.http.queries import Query
from mesafs.server.http.routing import Access, Body, Call, Route
from mesafs.server.services.bookmarks import Bookmarks
from mesafs.server.services.projection import Projection
from mesafs.store.bookmarks import BookmarkRow
from mesafs.store.repositories import RepositoryRow
from mesafs.wire.repositories import Bookmark, BookmarkPage, NewBookmark


def routes(backing: Backing, projection: Projection) -> list[Route]:
    bookmarks, cursors = Bookmarks(backing, projection), Cursors(backing)

    def list_bookmarks(call: Call) -> Response:
        query = Query(call.request.scope["query_string"])
        glob = query.filled("glob")
        repository = call.segments["repo"]
        paging = cursors.paging(query, call.principal, "bookmarks", (repository, glob))
        query.finish()
        row, found = bookmarks.list(
            call.principal,
            repository,
            glob=glob,
            after=paging.after or "",
            limit=paging.limit + 1,
        )
        more, found = len(found) > paging.limit, found[: paging.limit]
        cursor = paging.cursor(found[-1].name if found else None, more=more)
        return answer(BookmarkPage(cursor, more, tuple(_shown(row, each) for each in found)))

    def create(call: Call) -> Response:
        body = fit(NewBookmark, call.body)
        made = bookmarks.create(
            call.principal,
            call.segments["repo"],
            name=body.name,
            change=parse_change_id(body.change_id),
        )
        return answer(_shown(*made), 201)

    def get(call: Call) -> Response:
        Query(call.request.scope["query_string"]).finish()
        found = bookmarks.get(call.principal, call.segments["repo"], call.segments["bookmark"])
        return answer(_shown(*found))

    path = "/v1/{org}/{repo}/bookmarks"
    return [
        Route("GET", path, "listBookmarks", Access.READ, list_bookmarks),
        Route("POST", path, "createBookmark", Access.WRITE, create, Body.JSON),
        Route("GET", path + "/{bookmark}", "getBookmark", Access.READ, get),
    ]


def _shown(row: RepositoryRow, bookmark: BookmarkRow) -> Bookmark:
    return Bookmark(bookmark.name, bookmark.change, bookmark.name == row.default_bookmark)
