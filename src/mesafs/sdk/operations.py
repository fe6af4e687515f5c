"""Every operation of the REST interface that this client knows: its request and how to read it.

No I/O, no state: a function takes plain values and gives a :class:`~mesafs.sdk.exchange.Call`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TypeVar

from mesafs.sdk.exchange import JSON_TYPE, Call, Request, Response, json_body, path, read_json
from mesafs.wire.api_keys import ApiKeyPage, CreatedApiKey, NewApiKey
from mesafs.wire.changes import Change, ChangeDetail, ChangePage, ChangeUpdate, NewChange
from mesafs.wire.content import Content, content_from_json
from mesafs.wire.diffs import Diff
from mesafs.wire.organisations import Organisation, Success, Whoami
from mesafs.wire.repositories import (
    Bookmark,
    BookmarkPage,
    NewBookmark,
    NewRepo,
    Repo,
    RepoPage,
    RepoUpdate,
)
from mesafs.wire.shapes import Shape

S = TypeVar("S", bound=Shape)


def whoami() -> Call[Whoami]:
    return _get(path("whoami"), Whoami)


def get_org(org: str) -> Call[Organisation]:
    return _get(path(org), Organisation)


def list_api_keys(
    org: str, *, cursor: str | None, limit: int | None, status: str | None = None
) -> Call[ApiKeyPage]:
    query = {"cursor": cursor, "limit": limit, "status": status}
    return _get(path(org, "api-keys", query=query), ApiKeyPage)


def create_api_key(org: str, body: NewApiKey) -> Call[CreatedApiKey]:
    return _send("POST", path(org, "api-keys"), body, CreatedApiKey)


def revoke_api_key(org: str, key_id: str) -> Call[Success]:
    return _delete(path(org, "api-keys", key_id))


def list_repos(
    org: str, *, cursor: str | None, limit: int | None, tags: str | None
) -> Call[RepoPage]:
    query = {"cursor": cursor, "limit": limit, "tags": tags}
    return _get(path(org, "repos", query=query), RepoPage)


def create_repo(org: str, body: NewRepo) -> Call[Repo]:
    return _send("POST", path(org, "repos"), body, Repo)


def get_repo(org: str, repo: str) -> Call[Repo]:
    return _get(path(org, repo), Repo)


def update_repo(org: str, repo: str, body: RepoUpdate) -> Call[Repo]:
    return _send("PATCH", path(org, repo), body, Repo)


def delete_repo(org: str, repo: str) -> Call[Success]:
    return _delete(path(org, repo))


def list_bookmarks(
    org: str, repo: str, *, cursor: str | None, limit: int | None, glob: str | None
) -> Call[BookmarkPage]:
    query = {"cursor": cursor, "limit": limit, "glob": glob}
    return _get(path(org, repo, "bookmarks", query=query), BookmarkPage)


def get_bookmark(org: str, repo: str, bookmark: str) -> Call[Bookmark]:
    return _get(path(org, repo, "bookmarks", bookmark), Bookmark)


def create_bookmark(org: str, repo: str, body: NewBookmark) -> Call[Bookmark]:
    return _send("POST", path(org, repo, "bookmarks"), body, Bookmark)


def list_changes(
    org: str, repo: str, *, cursor: str | None, limit: int | None, bookmark: str | None
) -> Call[ChangePage]:
    query = {"cursor": cursor, "limit": limit, "bookmark": bookmark}
    return _get(path(org, repo, "changes", query=query), ChangePage)


def create_change(org: str, repo: str, body: NewChange) -> Call[Change]:
    return _send("POST", path(org, repo, "changes"), body, Change)


def get_change(org: str, repo: str, change_id: str) -> Call[ChangeDetail]:
    return _get(path(org, repo, "changes", change_id), ChangeDetail)


def update_change(org: str, repo: str, change_id: str, body: ChangeUpdate) -> Call[Change]:
    return _send("PATCH", path(org, repo, "changes", change_id), body, Change)


def get_content(
    org: str, repo: str, *, change_id: str | None, at: str | None, depth: int | None
) -> Call[Content]:
    target = _content(org, repo, change_id=change_id, at=at, depth=depth)
    return Call(Request("GET", target), lambda response: content_from_json(read_json(response)))


def read_content(org: str, repo: str, *, change_id: str | None, at: str) -> Call[bytes]:
    """The bytes of a file themselves, whatever their size."""
    target = _content(org, repo, change_id=change_id, at=at, depth=None)
    request = Request("GET", target, accept="application/octet-stream")
    return Call(request, lambda response: response.body)


def get_diff(
    org: str, repo: str, *, base_change_id: str, head_change_id: str, conflicts: str | None
) -> Call[Diff]:
    query = {
        "base_change_id": base_change_id,
        "head_change_id": head_change_id,
        "conflicts": conflicts,
    }
    return _get(path(org, repo, "diff", query=query), Diff)


def _content(
    org: str, repo: str, *, change_id: str | None, at: str | None, depth: int | None
) -> str:
    query = {"change_id": change_id, "path": at, "depth": depth}
    return path(org, repo, "content", query=query)


def _get(target: str, shape: type[S]) -> Call[S]:
    return Call(Request("GET", target), partial(_read, shape))


def _delete(target: str) -> Call[Success]:
    # A second deletion would answer that there is nothing: not the same answer, so never repeated.
    return Call(Request("DELETE", target, idempotent=False), partial(_read, Success))


def _send(method: str, target: str, body: Shape, shape: type[S]) -> Call[S]:
    request = Request(method, target, json_body(body.to_json()), JSON_TYPE, idempotent=False)
    return Call(request, partial(_read, shape))


def _read(shape: type[S], response: Response) -> S:
    return shape.from_json(read_json(response))


def tuple_or_none(items: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if items is None else tuple(items)
