"""``mesa key create|list|revoke``."""

from __future__ import annotations

import argparse
from datetime import datetime

from mesafs.cli.arguments import (
    add_json,
    all_pages,
    duration_seconds,
    organisation_and_name,
    words,
)
from mesafs.cli.context import Context
from mesafs.sync import Mesa
from mesafs.wire.api_keys import ApiKey


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key; it is printed once")
    create.add_argument("--name", metavar="TEXT", help="to recognise it by")
    create.add_argument(
        "--scope", action="append", metavar="SCOPE", help="read, write, admin; default read,write"
    )
    create.add_argument(
        "--repo", action="append", metavar="[ORG/]NAME", help="only these repositories"
    )
    create.add_argument("--expires-in", metavar="TIME", help="like 30d; default: never")
    add_json(create)
    listing = actions.add_parser("list", help="every key, without its text")
    add_json(listing)
    revoke = actions.add_parser("revoke", help="end a key and all its tokens, at once")
    revoke.add_argument("key_id", metavar="KEY_ID")


def run(arguments: argparse.Namespace, context: Context) -> int:
    with context.client(arguments) as mesa:
        actions = {"create": _create, "list": _list, "revoke": _revoke}
        return actions[arguments.action](arguments, context, mesa)


def _create(arguments: argparse.Namespace, context: Context, mesa: Mesa) -> int:
    names = words(arguments.repo)
    repo_ids = None
    if names is not None:
        places = [organisation_and_name(name) for name in names]
        repo_ids = [mesa.repos.get(org=org, repo=name).id for org, name in places]
    lifetime = arguments.expires_in
    created = mesa.api_keys.create(
        name=arguments.name,
        scopes=words(arguments.scope),
        repo_ids=repo_ids,
        expires_in_seconds=None if lifetime is None else duration_seconds(lifetime),
    )
    if arguments.json:
        context.output.json(created.to_json())
        return 0
    context.output.note(f"key {created.id} with {', '.join(created.scopes)}; shown only now:")
    context.output.line(created.key)
    return 0


def _list(arguments: argparse.Namespace, context: Context, mesa: Mesa) -> int:
    pages = all_pages(lambda cursor: mesa.api_keys.list(cursor=cursor, limit=100))
    keys = [key for page in pages for key in page.api_keys]
    if arguments.json:
        context.output.json([key.to_json() for key in keys])
        return 0
    now_seconds = context.clock.now_ns() / 1_000_000_000
    context.output.table(
        ("ID", "NAME", "SCOPES", "REPOSITORIES", "STATE", "LAST USED"),
        [
            (
                key.id,
                key.name or "",
                ",".join(key.scopes),
                "all" if key.repo_ids is None else str(len(key.repo_ids)),
                _state(key, now_seconds),
                _moment(key.last_used_at),
            )
            for key in keys
        ],
    )
    return 0


def _revoke(arguments: argparse.Namespace, context: Context, mesa: Mesa) -> int:
    mesa.api_keys.revoke(key_id=arguments.key_id)
    context.output.note(f"revoked {arguments.key_id}; its tokens are refused from now on")
    return 0


def _state(key: ApiKey, now_seconds: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "active"
    if key.expires_at.timestamp() <= now_seconds:
        return "expired"
    return f"until {_moment(key.expires_at)}"


def _moment(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M}"
