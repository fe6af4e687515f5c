"""``mesa version``."""

from __future__ import annotations

import argparse

from mesafs.cli.context import Context
from mesafs.version import __version__


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.json:
        context.output.json({"version": __version__})
    else:
        context.output.line(f"mesa {__version__}")
    return 0
