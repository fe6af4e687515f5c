"""``mesa ls``."""

from __future__ import annotations

import argparse

from mesafs.cli.arguments import add_json, add_repository, organisation_and_name
from mesafs.cli.context import Context
from mesafs.wire.content import DirectoryContent, DirectoryEntry


def configure(parser: argparse.ArgumentParser) -> None:
    add_repository(parser)
    parser.add_argument("path", nargs="?", metavar="PATH", help="default: the root")
    parser.add_argument("--change", metavar="CHANGE", help="default: the default bookmark's")
    add_json(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    org, repo = organisation_and_name(arguments.repo)
    with context.client(arguments) as mesa:
        content = mesa.content.get(
            org=org, repo=repo, path=arguments.path, change_id=arguments.change
        )
    if arguments.json:
        context.output.json(content.to_json())
    elif isinstance(content, DirectoryContent):
        context.output.table(
            ("MODE", "SIZE", "NAME"),
            [
                ("040000", "", f"{each.name}/")
                if isinstance(each, DirectoryEntry)
                else (each.mode, str(each.size), each.name)
                for each in content.entries
            ],
        )
    else:
        context.output.table(
            ("MODE", "SIZE", "NAME"), [(content.mode, str(content.size), content.name)]
        )
    return 0
