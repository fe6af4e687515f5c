#!/usr/bin/env python3
"""Write docs/reference/cli.md from the parsers of the command. Run by a test with ``--check``."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from mesafs.cli.main import COMMANDS, command_parser

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"


def page() -> str:
    parts = [
        "# The mesa command",
        "",
        "Written by `scripts/reference.py` from the command itself. Every command takes `--api-url`, `--org`,",
        "`--ca-file`, `-c/--config-path` and `-y`. Errors are one line and a hint; the exit status is 2 for a wrong",
        "request, 4 for a missing, expired or too narrow credential, 75 for a server that cannot be reached, 70 for",
        "damaged data, and 1 for everything else.",
        "",
    ]
    for name, (module, summary) in COMMANDS.items():
        parser = command_parser(name)
        importlib.import_module(f"mesafs.cli.commands.{module}").configure(parser)
        parts += [f"## mesa {name}", "", f"{summary.capitalize()}.", "", "```"]
        parts += [_usage(parser)]
        parts += _options(parser)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for sub in dict.fromkeys(action.choices.values()):
                    parts += ["", _usage(sub), *_options(sub)]
        parts += ["```", ""]
    return "\n".join(parts)


def _usage(parser: argparse.ArgumentParser) -> str:
    """One line: argparse folds its own differently in every version."""
    words = [parser.prog, "[options]"]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words.append("ACTION")
        elif not action.option_strings:
            name = (action.metavar if isinstance(action.metavar, str) else action.dest).upper()
            words.append(f"[{name}]" if action.nargs == "?" else name)
    return " ".join(words)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    common = {"help", "config_path", "non_interactive", "api_url", "org", "ca_file"}
    lines = []
    for action in parser._actions:
        if (
            action.dest in common
            or isinstance(action, argparse._SubParsersAction)
            or not action.help
        ):
            continue
        name = ", ".join(action.option_strings) or action.dest
        lines.append(f"  {name:<24} {action.help}")
    return lines


if __name__ == "__main__":
    wanted = page()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text() == wanted else "docs/reference/cli.md is out of date")
    PAGE.write_text(wanted)
