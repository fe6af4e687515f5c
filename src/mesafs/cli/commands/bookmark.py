"""``mesa bookmark list``."""

from __future__ import annotations

import argparse

from mesafs.cli.arguments import add_json, add_repository, all_pages, organisation_and_name
from mesafs.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every bookmark and the change it names")
    add_repository(listing)
    listing.add_argument("--glob", metavar="PATTERN", help="only names that match, like feat/*")
    add_json(listing)


def run(arguments: argparse.Namespace, context: Context) -> int:
    org, repo = organisation_and_name(arguments.repo)
    with context.client(arguments) as mesa:
        pages = all_pages(
            lambda cursor: mesa.bookmarks.list(
                org=org, repo=repo, cursor=cursor, limit=100, glob=arguments.glob
            )
        )
        bookmarks = [bookmark for page in pages for bookmark in page.bookmarks]
    if arguments.json:
        context.output.json([bookmark.to_json() for bookmark in bookmarks])
        return 0
    context.output.table(
        ("NAME", "CHANGE", ""),
        [(each.name, each.change_id, "default" if each.is_default else "") for each in bookmarks],
    )
    return 0
