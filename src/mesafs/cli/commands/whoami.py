"""``mesa whoami``."""

from __future__ import annotations

import argparse

from mesafs.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace, context: Context) -> int:
    with context.client(arguments) as mesa:
        who = mesa.whoami()
        if arguments.json:
            context.output.json({"server": mesa.api_url, **who.to_json()})
            return 0
        name = f" ({who.key_name})" if who.key_name else ""
        context.output.line(f"organisation  {who.org.slug} ({who.org.name})")
        context.output.line(f"key           {who.key_id or 'unknown'}{name}")
        context.output.line(f"scopes        {', '.join(who.scopes) or 'none'}")
        context.output.line(f"server        {mesa.api_url}")
    return 0
