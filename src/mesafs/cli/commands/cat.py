"""``mesa cat``: the bytes of a file, unchanged."""

from __future__ import annotations

import argparse

from mesafs.cli.arguments import add_repository, organisation_and_name
from mesafs.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    add_repository(parser)
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--change", metavar="CHANGE", help="default: the default bookmark's")


def run(arguments: argparse.Namespace, context: Context) -> int:
    org, repo = organisation_and_name(arguments.repo)
    with context.client(arguments) as mesa:
        content = mesa.content.read(
            org=org, repo=repo, path=arguments.path, change_id=arguments.change
        )
    context.output.bytes(content)
    return 0
