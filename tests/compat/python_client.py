"""Drives the published Python clients, unmodified, and says what became of each method.

Runs in an environment of its own. Reads ``{"url", "key", "org"}`` from standard input; prints
``{"sdk": {method: outcome}, "rest": {operation: outcome}, "sdk_surface": [...], "rest_surface": [...]}``.
An outcome is ``ok``, the server's error code, or the text of what went wrong.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import inspect
import json
import pkgutil
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import mesa_rest.api
from mesa_rest import models
from mesa_rest.client import AuthenticatedClient
from mesa_sdk import Author, FileDelete, FileUpsert, Mesa
from mesa_sdk.errors import ApiError

ROOT = "z" * 32
ADA = Author(name="Ada", email="ada@example.org")
README = base64.b64encode(b"hello\n").decode()
NAMESPACES = (
    "api_keys",
    "bookmarks",
    "changes",
    "content",
    "diffs",
    "fs",
    "org",
    "repos",
    "tokens",
    "webhook_targets",
    "webhooks",
)

outcomes: dict[str, str] = {}


async def tried(name: str, work: Awaitable[Any], check: Callable[[Any], bool]) -> Any:
    try:
        result = await work
        outcomes[name] = "ok" if check(result) else f"not as expected: {result!r}"
    except ApiError as error:
        body = getattr(error, "body", None)
        outcomes[name] = body.error.code if body is not None else f"no body: {error!r}"
        return None
    except Exception as error:  # noqa: BLE001 - the outcome is the whole point
        outcomes[name] = f"{type(error).__name__}: {error}"
        return None
    return result


async def sdk(url: str, key: str, org: str) -> None:
    async with Mesa(api_key=key, api_url=f"{url}/v1", vcs_url=url) as mesa:
        await tried("whoami", mesa.whoami(), lambda r: r.org.slug == org and bool(r.key_id))
        await tried("resolve_org", mesa.resolve_org(), lambda r: r == org)
        token = await tried(
            "tokens.create",
            mesa.tokens.create(scopes=["read"], ttl_seconds=60),
            lambda r: r.token.count(".") == 2,
        )
        async with Mesa(api_key=token.token, api_url=f"{url}/v1") as reader:
            if (await reader.whoami()).scopes != ["read"]:
                outcomes["tokens.create"] = "the server does not take the token"
        await keys(mesa)
        await repositories(mesa, org)
        await tried("org.get", mesa.org.get(), lambda r: r.num_repos >= 1)
        first, second = await changes(mesa)
        await bookmarks(mesa, first, second)
        await missing(mesa, first)
        await tried("repos.delete", mesa.repos.delete(repo="py"), lambda r: r.success is True)


async def keys(mesa: Mesa) -> None:
    made = await tried(
        "api_keys.create",
        mesa.api_keys.create(name="k", scopes=["read"], expires_in_seconds=3600),
        lambda r: r.key.startswith("mesa_") and r.name == "k",
    )
    await tried(
        "api_keys.list",
        mesa.api_keys.list(limit=100),
        lambda r: made.id in {each.id for each in r.api_keys} and r.has_more is False,
    )
    await tried("api_keys.revoke", mesa.api_keys.revoke(key_id=made.id), lambda r: r.success)


async def repositories(mesa: Mesa, org: str) -> None:
    await tried(
        "repos.create",
        mesa.repos.create(name="py-before"),
        lambda r: (r.org, r.name, r.head_change_id) == (org, "py-before", ROOT),
    )
    await tried(
        "repos.update",
        mesa.repos.update(repo="py-before", name="py"),
        lambda r: r.name == "py",
    )
    await tried("repos.get", mesa.repos.get(repo="py"), lambda r: r.default_bookmark == "main")
    await tried(
        "repos.list",
        mesa.repos.list(limit=100),
        lambda r: "py" in {each.name for each in r.repos},
    )


async def changes(mesa: Mesa) -> tuple[str, str]:
    first = await tried(
        "changes.create",
        mesa.changes.create(
            repo="py",
            base_change_id=ROOT,
            message="first",
            author=ADA,
            files=[
                FileUpsert(path="README.md", content=README),
                FileUpsert(path="d/gone", content=README),
            ],
        ),
        lambda r: r.message == "first" and r.author.name == "Ada" and r.parents == [ROOT],
    )
    second = await mesa.changes.create(
        repo="py",
        base_change_id=first.id,
        message="second",
        author=ADA,
        files=[FileDelete(path="d/gone"), FileUpsert(path="new", content=README)],
    )
    await tried(
        "changes.get",
        mesa.changes.get(repo="py", change_id=second.id),
        lambda r: sorted(r.files) == ["d/gone", "new"] and r.conflicts == [],
    )
    await tried(
        "changes.patch",
        mesa.changes.patch(
            repo="py",
            change_id=second.id,
            message="second, better",
            base_commit_oid=second.current_commit_oid,
        ),
        lambda r: r.id == second.id and r.message == "second, better",
    )
    await tried(
        "content.get",
        mesa.content.get(repo="py", change_id=first.id, path="README.md"),
        lambda r: r.is_file() and base64.b64decode(r.content) == b"hello\n",
    )
    root = await mesa.content.get(repo="py", change_id=second.id)
    if not (root.is_dir() and {each.name for each in root.entries} == {"README.md", "new"}):
        outcomes["content.get"] = f"the root is {root!r}"
    await tried(
        "diffs.get",
        mesa.diffs.get(repo="py", base_change_id=first.id, head_change_id=second.id),
        lambda r: {e.path for e in r.entries} <= {"d/gone", "new"} and r.stats.entries >= 1,
    )
    return first.id, second.id


async def bookmarks(mesa: Mesa, first: str, second: str) -> None:
    await tried(
        "bookmarks.create",
        mesa.bookmarks.create(repo="py", name="feat/x", change_id=second),
        lambda r: (r.name, r.change_id, r.is_default) == ("feat/x", second, False),
    )
    await tried(
        "bookmarks.get",
        mesa.bookmarks.get(repo="py", bookmark="feat/x"),
        lambda r: r.change_id == second,
    )
    await tried(
        "bookmarks.list",
        mesa.bookmarks.list(repo="py", glob="feat*"),
        lambda r: [each.name for each in r.bookmarks] == ["feat/x"],
    )
    await tried(
        "changes.list",
        mesa.changes.list(repo="py", bookmark="feat/x"),
        lambda r: [each.id for each in r.changes] == [second, first],
    )


async def missing(mesa: Mesa, change: str) -> None:
    """Methods of which the server is expected to say that it does not have them yet."""
    targets, books, repos = mesa.webhook_targets, mesa.bookmarks, mesa.repos
    for name, work in {
        "bookmarks.move": books.move(repo="py", bookmark="feat/x", change_id=change),
        "bookmarks.merge": books.merge(repo="py", source="feat/x", target="main"),
        "bookmarks.delete": books.delete(repo="py", bookmark="feat/x"),
        "repos.sync_upstream": repos.sync_upstream(repo="py", direction="pull"),
        "repos.get_upstream_sync": repos.get_upstream_sync(repo="py", sync_id="s"),
        "repos.list_upstream_syncs": repos.list_upstream_syncs(repo="py"),
        "webhook_targets.list": targets.list(),
        "webhook_targets.create": targets.create(url="https://example.org/hook"),
        "webhook_targets.update": targets.update(webhook_target_id="w", name="n"),
        "webhook_targets.clear_repo_filter": targets.clear_repo_filter(webhook_target_id="w"),
        "webhook_targets.delete": targets.delete(webhook_target_id="w"),
    }.items():
        await tried(name, work, lambda r: True)


def sdk_surface() -> list[str]:
    mesa = Mesa(api_key="mesa_x", api_url="http://127.0.0.1:1/v1")
    own = [
        name
        for name, member in inspect.getmembers(Mesa, inspect.isfunction)
        if not name.startswith("_")
    ]
    for namespace in NAMESPACES:
        cls = type(getattr(mesa, namespace))
        own += [
            f"{namespace}.{name}"
            for name, member in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        ]
    known = {name for name in vars(mesa) if not name.startswith("_")}
    own += sorted(
        known - set(NAMESPACES) - {"api_key", "api_url", "vcs_url"}
    )  # a new namespace would show
    return sorted(own)


def rest_modules() -> dict[str, Any]:
    return {
        name.rpartition(".")[2]: importlib.import_module(name)
        for _, name, is_package in pkgutil.walk_packages(mesa_rest.api.__path__, "mesa_rest.api.")
        if not is_package
    }


def rest(url: str, key: str, org: str, found: dict[str, str]) -> None:
    """Every generated function of the low-level client, in an order in which each can succeed."""
    modules = rest_modules()
    with AuthenticatedClient(base_url=f"{url}/v1", token=key) as client:

        def call(operation: str, *path: str, **more: Any) -> Any:
            response = modules[operation].sync_detailed(*path, client=client, **more)
            status = int(response.status_code)
            parsed = response.parsed
            if parsed is None:
                found[operation] = f"{status} was not understood: {response.content!r}"
            elif 200 <= status < 300:
                found[operation] = "ok"
            else:
                found[operation] = parsed.error.code
            return parsed

        def body(model: str, /, **values: Any) -> Any:
            return getattr(models, model).from_dict(values)

        call("whoami")
        call("get_org", org)
        made = call("create_api_key", org, body=body("CreateApiKeyBody", name="low"))
        call("list_api_keys", org)
        call("update_api_key", org, made.id, body=body("UpdateApiKeyBody", tags={"a": "b"}))
        call("revoke_api_key", org, made.id)
        call("create_repo", org, body=body("CreateRepoBody", name="low"))
        call("list_repos", org)
        call("get_repo", org, "low")
        call("update_repo", org, "low", body=body("UpdateRepoBody", tags={"team": "core"}))
        tags = {"repo_ids": ["r"], "action": "set", "key": "a", "value": "b"}
        call("bulk_update_repo_tags", org, body=body("BulkUpdateRepoTagsBody", **tags))
        files = [{"path": "a", "content": README}]
        person = {"name": "Ada", "email": "ada@example.org"}
        change = {"base_change_id": ROOT, "message": "m", "author": person, "files": files}
        first = call("create_change", org, "low", body=body("CreateChangeBody", **change))
        call("list_changes", org, "low")
        call("get_change", org, "low", first.id)
        update = body("UpdateChangeBody", message="n")
        call("update_change", org, "low", first.id, body=update)
        call("get_diff", org, "low", base_change_id=ROOT, head_change_id=first.id)
        call("get_content", org, "low", change_id=first.id)
        mark = body("CreateBookmarkBody", name="b", change_id=first.id)
        call("create_bookmark", org, "low", body=mark)
        call("list_bookmarks", org, "low")
        call("get_bookmark", org, "low", "b")
        call("move_bookmark", org, "low", "b", body=body("MoveBookmarkBody", change_id=ROOT))
        merge = body("MergeBookmarkBody", source="b", target="main")
        call("merge_bookmark", org, "low", body=merge)
        call("delete_bookmark", org, "low", "b")
        call("sync_upstream", org, "low", body=body("SyncUpstreamBody", direction="pull"))
        call("list_repo_upstream_syncs", org, "low")
        call("get_repo_upstream_sync", org, "low", "s")
        hook = body("CreateWebhookTargetBody", url="https://example.org/hook")
        call("create_webhook_target", org, body=hook)
        call("list_webhook_targets", org)
        call("get_webhook_target", org, "w")
        call("update_webhook_target", org, "w", body=body("UpdateWebhookTargetBody", name="n"))
        call("delete_webhook_target", org, "w")
        call("delete_repo", org, "low")


def main() -> None:
    request = json.load(sys.stdin)
    low: dict[str, str] = {}
    stopped = []
    if request.get("url"):
        place = (request["url"], request["key"], request["org"])
        for work in (lambda: asyncio.run(sdk(*place)), lambda: rest(*place, low)):
            try:
                work()
            except Exception:  # noqa: BLE001 - what was tried before is still worth telling
                stopped.append(traceback.format_exc())
    report = {
        "stopped": stopped,
        "sdk": outcomes,
        "rest": low,
        "sdk_surface": sdk_surface(),
        "rest_surface": sorted(rest_modules()),
    }
    print(json.dumps(report))  # noqa: T201 - this is its answer


if __name__ == "__main__":
    main()
