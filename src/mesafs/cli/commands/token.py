"""``mesa token create``: signed here, without the network."""

from __future__ import annotations

import argparse

from mesafs.auth.scopes import parse_requested
from mesafs.cli.arguments import add_json, duration_seconds, organisation_and_name, words
from mesafs.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="sign a token; its text is all that is printed")
    create.add_argument(
        "--scope", action="append", metavar="SCOPE", help="read, write, admin; default read,write"
    )
    create.add_argument(
        "--repo", action="append", metavar="[ORG/]NAME", help="only these; default: the key's"
    )
    create.add_argument("--ttl", default="1h", metavar="TIME", help="like 15m; at most 24h")
    add_json(create)


def run(arguments: argparse.Namespace, context: Context) -> int:
    scopes = words(arguments.scope)
    if scopes is not None:
        parse_requested(scopes, field="--scope")
    with context.client(arguments) as mesa:
        repos = words(arguments.repo)
        if repos is not None:
            places = [organisation_and_name(each) for each in repos]
            repos = [f"{org or mesa.resolve_org()}/{name}" for org, name in places]
        created = mesa.tokens.create(
            scopes=scopes, repos=repos, ttl_seconds=duration_seconds(arguments.ttl)
        )
    if arguments.json:
        context.output.json(
            {
                "token": created.token,
                "expires_at": created.expires_at.isoformat(timespec="milliseconds"),
                "scopes": created.scopes,
                "repos": created.repos,
            }
        )
        return 0
    where = "every repository of the key" if repos is None else ", ".join(repos)
    context.output.note(
        f"{', '.join(created.scopes)} on {where} until {created.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    context.output.line(created.token)
    return 0
