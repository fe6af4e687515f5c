"""``/v1/{org}/{repo}/content``: as JSON, or a file's bytes when those are asked for."""

from __future__ import annotations

from base64 import b64encode

from starlette.responses import Response

from mesafs.base.errors import Exhausted
from mesafs.model.ids import parse_change_id
from mesafs.model.objects import MODE_GITLINK, MODE_SYMLINK
from mesafs.model.paths import RepoPath, from_text, join, parse, to_text
from mesafs.server.backing import Backing
from mesafs.server.http.answers import answer
from mesafs.server.http.errors import NotAcceptable
from mesafs.server.http.negotiation import BYTES_TYPE, JSON_TYPE, preferred
from mesafs.server.http.queries import Query
from mesafs.server.http.routing import Access, Call, Route
from mesafs.server.services.content import MAX_DEPTH, Contents, Directory, File, Listed
from mesafs.server.unsupported import Unsupported
from mesafs.wire.content import (
    DirectoryContent,
    DirectoryEntry,
    Entry,
    FileContent,
    FileEntry,
    SymlinkContent,
    SymlinkEntry,
)

MAX_INLINE_BYTES = 32 << 20
#: Bytes from a repository are shown by no browser as a page of this server.
_RAW_HEADERS = {
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}
_VARY = {"Vary": "Authorization, Accept"}


def routes(backing: Backing) -> list[Route]:
    contents = Contents(backing)

    def get(call: Call) -> Response:
        query = Query(call.request.scope["query_string"])
        change = query.filled("change_id")
        path = _path(query.text("path"))
        depth = query.integer("depth", low=0, high=MAX_DEPTH, default=1)
        if query.rest():
            raise Unsupported("filtering by metadata (any query parameter that is not documented)")
        form = preferred(call.request, (JSON_TYPE, BYTES_TYPE))
        found = contents.get(
            call.principal,
            call.segments["repo"],
            change=None if change is None else parse_change_id(change),
            path=path,
            depth=depth,
        )
        response = _raw(found) if form == BYTES_TYPE else _json(found)
        response.headers.update(_VARY)
        return response

    return [Route("GET", "/v1/{org}/{repo}/content", "getContent", Access.READ, get)]


def _path(text: str | None) -> RepoPath:
    return () if not text else parse(from_text(text))


def _raw(found: File | Directory) -> Response:
    if isinstance(found, Directory):
        raise NotAcceptable("a directory has no bytes", hint="accept application/json")
    return Response(found.content, media_type=BYTES_TYPE, headers=_RAW_HEADERS)


def _json(found: File | Directory) -> Response:
    if isinstance(found, Directory):
        return answer(
            DirectoryContent(
                name=_name(found.path),
                path=to_text(join(found.path)),
                sha=found.id.hex(),
                child_count=found.child_count,
                entries=tuple(_entry(listed) for listed in found.entries),
            )
        )
    if len(found.content) > MAX_INLINE_BYTES:
        raise Exhausted(
            f"the file is larger than {MAX_INLINE_BYTES} bytes",
            hint="ask for its bytes with Accept: application/octet-stream",
        )
    name, path, sha = _name(found.path), to_text(join(found.path)), found.id.hex()
    size, content = len(found.content), b64encode(found.content).decode()
    conflicted = True if found.conflicted else None
    if found.mode == MODE_SYMLINK:
        return answer(SymlinkContent(name, path, sha, size, content, is_conflicted=conflicted))
    return answer(
        FileContent(
            name,
            path,
            sha,
            size,
            content,
            "100755" if found.mode & 0o100 else "100644",
            is_conflicted=conflicted,
        )
    )


def _entry(listed: Listed) -> Entry:
    name, path, sha = _name(listed.path), to_text(join(listed.path)), listed.entry.id.hex()
    mode, size = listed.entry.mode, listed.size
    if listed.entry.is_tree or mode == MODE_GITLINK or size is None:
        return DirectoryEntry(name, path, sha)
    if mode == MODE_SYMLINK:
        return SymlinkEntry(name, path, sha, size)
    return FileEntry(name, path, sha, size, "100755" if mode & 0o100 else "100644")


def _name(path: RepoPath) -> str:
    return to_text(path[-1]) if path else ""
