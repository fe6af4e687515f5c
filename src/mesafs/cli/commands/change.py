"""``mesa change list|show``."""

from __future__ import annotations

import argparse

from mesafs.cli.arguments import add_json, add_repository, organisation_and_name
from mesafs.cli.context import Context
from mesafs.sync import Mesa


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the changes of a bookmark, newest first")
    add_repository(listing)
    listing.add_argument("--bookmark", metavar="NAME", help="default: the default bookmark")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="default: 20")
    add_json(listing)
    show = actions.add_parser("show", help="one change and the files it touches")
    add_repository(show)
    show.add_argument("change_id", metavar="CHANGE")
    add_json(show)


def run(arguments: argparse.Namespace, context: Context) -> int:
    org, repo = organisation_and_name(arguments.repo)
    with context.client(arguments) as mesa:
        action = _list if arguments.action == "list" else _show
        return action(arguments, context, mesa, org, repo)


def _list(
    arguments: argparse.Namespace, context: Context, mesa: Mesa, org: str | None, repo: str
) -> int:
    page = mesa.changes.list(org=org, repo=repo, bookmark=arguments.bookmark, limit=arguments.limit)
    if arguments.json:
        context.output.json(page.to_json())
        return 0
    context.output.table(
        ("CHANGE", "COMMIT", "UPDATED", "AUTHOR", "MESSAGE"),
        [
            (
                change.id[:8],
                change.current_commit_oid[:8],
                f"{change.updated_at:%Y-%m-%d %H:%M}",
                change.author.name,
                ("(conflict) " if change.is_conflicted else "") + change.message.partition("\n")[0],
            )
            for change in page.changes
        ],
    )
    if page.has_more:
        context.output.note(f"there are more; see them with --limit {arguments.limit * 2}")
    return 0


def _show(
    arguments: argparse.Namespace, context: Context, mesa: Mesa, org: str | None, repo: str
) -> int:
    change = mesa.changes.get(org=org, repo=repo, change_id=arguments.change_id)
    if arguments.json:
        context.output.json(change.to_json())
        return 0
    context.output.line(f"change   {change.id}")
    context.output.line(f"commit   {change.current_commit_oid}")
    context.output.line(f"author   {change.author.name} <{change.author.email}>")
    context.output.line(f"updated  {change.updated_at:%Y-%m-%d %H:%M:%S}")
    for parent in change.parents:
        context.output.line(f"parent   {parent}")
    if change.message:
        context.output.line()
        context.output.text("".join(f"    {line}\n" for line in change.message.splitlines()))
    context.output.line()
    for path in change.files:
        mark = "conflict" if path in change.conflicts else "        "
        context.output.line(f"{mark} {path}")
    return 0
