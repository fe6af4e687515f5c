"""``mesa repo list|create|get|delete|import``."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path
from typing import Any

from mesafs.base.errors import Invalid, NotFound
from mesafs.cli.arguments import add_json, all_pages, organisation_and_name
from mesafs.cli.context import Context
from mesafs.model.paths import to_text
from mesafs.sync import Mesa
from mesafs.wire.repositories import Repo
from mesafs.wire.sync import RepositoryState

_SKIPPED_SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every repository this credential may read")
    add_json(listing)
    create = actions.add_parser("create", help="make an empty repository")
    create.add_argument("name", nargs="?", metavar="[ORG/]NAME")
    create.add_argument("--default-bookmark", metavar="NAME", help="default: main")
    add_json(create)
    get = actions.add_parser("get", help="show one repository")
    get.add_argument("name", metavar="[ORG/]NAME")
    add_json(get)
    delete = actions.add_parser("delete", help="delete a repository")
    delete.add_argument("name", metavar="[ORG/]NAME")
    folder = actions.add_parser("import", help="bring a plain folder in")
    folder.add_argument("folder", type=Path, metavar="DIR")
    folder.add_argument("--repo", metavar="[ORG/]NAME", help="default: the folder's name")
    folder.add_argument("--bookmark", metavar="NAME", help="default: the default bookmark")
    folder.add_argument("-m", "--message", metavar="TEXT", help="describes the change")
    folder.add_argument(
        "--replace", action="store_true", help="replace what the bookmark holds by the folder"
    )
    add_json(folder)


def run(arguments: argparse.Namespace, context: Context) -> int:
    with context.client(arguments) as mesa:
        actions = {
            "list": _list,
            "create": _create,
            "get": _get,
            "delete": _delete,
            "import": _import,
        }
        return actions[arguments.action](arguments, context, mesa)


def _list(arguments: argparse.Namespace, context: Context, mesa: Mesa) -> int:
    pages = all_pages(lambda cursor: mesa.repos.list(cursor=cursor, limit=100))
    repos = [repo for page in pages for repo in page.repos]
    if arguments.json:
        context.output.json([repo.to_json() for repo in repos])
        return 0
    context.output.table(
        ("NAME", "BOOKMARK", "HEAD", "CREATED"),
        [
            (f"{repo.org}/{repo.name}", repo.default_bookmark, repo.head_change_id[:8], _day(repo))
            for repo in repos
        ],
    )
    if not repos:
        context.output.note("no repositories yet; make one with `mesa repo create NAME`")
    return 0


def _create(arguments: argparse.Namespace, context: Context, mesa: Mesa) -> int:
    org, name = (None, None) if arguments.name is None else organisation_and_name(arguments.name)
    repo = mesa.repos.create(org=org, name=name, default_bookmark=arguments.default_bookmark)
    _show(repo, arguments, context)
    return 0


def _get(arguments: argparse.Namespace, context: Context, mesa: Mesa) -> int:
    org, name = organisation_and_name(arguments.name)
    _show(mesa.repos.get(org=org, repo=name), arguments, context)
    return 0


def _delete(arguments: argparse.Namespace, context: Context, mesa: Mesa) -> int:
    org, name = organisation_and_name(arguments.name)
    mesa.repos.delete(org=org, repo=name)
    context.output.note(f"deleted {mesa.resolve_org(org)}/{name}")
    return 0


def _import(arguments: argparse.Namespace, context: Context, mesa: Mesa) -> int:
    from mesafs.sdk.folder_import import (  # noqa: PLC0415 - only this action packs anything
        Progress,
        import_folder,
    )
    from mesafs.sdk.sync_api import SyncApi  # noqa: PLC0415 - the same

    folder: Path = arguments.folder
    if not folder.is_dir():
        raise Invalid(f"{folder} is not a folder", hint="name the folder to bring in")
    org, name = organisation_and_name(arguments.repo or folder.resolve().name)
    org = mesa.resolve_org(org)
    api = SyncApi(mesa.transport)
    target = _target(api, mesa, org, name, arguments.bookmark, context)

    def report(progress: Progress) -> None:
        if progress.files % 100 == 0:
            context.output.progress(f"{progress.files} files, {progress.size_bytes >> 20} MiB")

    started = context.clock.monotonic()
    imported = import_folder(
        folder,
        api,
        target,
        message=arguments.message or f"Import of {folder.resolve().name}",
        replace=arguments.replace,
        clock=context.clock,
        entropy=secrets.token_bytes,
        report=report,
    )
    seconds = context.clock.monotonic() - started
    _tell_skipped(imported.progress.skipped, imported.progress.empty_directories, context)
    facts: dict[str, Any] = {
        "repository": f"{org}/{name}",
        "bookmark": imported.state.bookmark,
        "change": imported.state.change,
        "tree": imported.state.tree.hex(),
        "files": imported.progress.files,
        "size_bytes": imported.progress.size_bytes,
        "skipped": [to_text(path) for path, _ in imported.progress.skipped],
        "is_new": imported.is_new,
    }
    if arguments.json:
        context.output.json(facts)
        return 0
    done = "imported" if imported.is_new else "already there:"
    context.output.line(
        f"{done} {facts['files']} files, {facts['size_bytes']} bytes"
        f" as {facts['repository']} in {seconds:.1f} s"
    )
    context.output.line(f"change {facts['change']} at bookmark {facts['bookmark']}")
    context.output.line(f"tree   {facts['tree']}")
    return 0


def _target(
    api: Any, mesa: Mesa, org: str, name: str, bookmark: str | None, context: Context
) -> RepositoryState:
    """Where the repository stands; it is made when there is none."""
    try:
        resolved = api.resolve(org, [(name, bookmark)])
    except NotFound:
        if bookmark is not None:
            raise
        mesa.repos.create(org=org, name=name)
        context.output.note(f"made the repository {org}/{name}")
        resolved = api.resolve(org, [(name, None)])
    state: RepositoryState = resolved.repositories[0]
    return state


def _tell_skipped(skipped: list[tuple[bytes, str]], empty: int, context: Context) -> None:
    for path, why in skipped[:_SKIPPED_SHOWN]:
        context.output.note(f"left out {to_text(path)}: {why}")
    if len(skipped) > _SKIPPED_SHOWN:
        context.output.note(f"left out {len(skipped)} in all")
    if empty:
        context.output.note(f"{empty} empty folders are not kept: git keeps files only")


def _show(repo: Repo, arguments: argparse.Namespace, context: Context) -> None:
    if arguments.json:
        context.output.json(repo.to_json())
        return
    context.output.line(f"repository  {repo.org}/{repo.name}")
    context.output.line(f"id          {repo.id}")
    context.output.line(f"bookmark    {repo.default_bookmark}")
    context.output.line(f"head        {repo.head_change_id}")
    context.output.line(f"created     {_day(repo)}")
    for tag, value in repo.tags.items():
        context.output.line(f"tag         {tag}={value}")


def _day(repo: Repo) -> str:
    return f"{repo.created_at:%Y-%m-%d %H:%M}"
