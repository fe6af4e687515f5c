"""``mesa``: finds the command, runs it, and turns an error into one line and an exit status.

A command's module is imported only when that command is named, so that each costs what it needs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mesafs.base.errors import EXIT_STATUS, Invalid, MesaError
from mesafs.cli.config import context as real_context
from mesafs.cli.context import Context

#: Every command: its module in ``mesafs.cli.commands``, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "mount": ("mount", "show repositories as ordinary folders"),
    "unmount": ("unmount", "publish what is left and take a mount away"),
    "status": ("status", "what mounts there are, and what the server does not have yet"),
    "sync": ("sync", "wait until the server has every edit"),
    "logs": ("logs", "the log of a mount"),
    "doctor": ("doctor", "what this machine lacks for mounting"),
    "repo": ("repo", "list, create, show, delete repositories; import a folder"),
    "bookmark": ("bookmark", "list the bookmarks of a repository"),
    "change": ("change", "list and show the changes of a repository"),
    "diff": ("diff", "the difference of two changes"),
    "ls": ("ls", "list a folder of a repository"),
    "cat": ("cat", "print a file of a repository"),
    "key": ("key", "create, list and revoke API keys"),
    "token": ("token", "sign an access token from an API key, without the network"),
    "whoami": ("whoami", "who this credential is, and what it may do"),
    "serve": ("serve", "run a server"),
    "version": ("version", "print the version"),
}
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None, context: Context | None = None) -> int:
    """Run one command; the result is the exit status."""
    context = context or real_context()
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments), context)
    except MesaError as error:
        context.output.error(error.message, error.hint)
        return EXIT_STATUS[error.kind]
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _run(arguments: list[str], context: Context) -> int:
    parser = _Parser(
        prog="mesa",
        description="A versioned filesystem for agents.",
        parents=[_settings()],
        epilog=_list_of_commands(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("command", nargs="?", metavar="COMMAND")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    first = parser.parse_args(arguments)
    if first.version:
        first.command, first.rest = "version", []
    if first.command is None:
        context.output.text(parser.format_help())
        return 0
    if first.command not in COMMANDS:
        raise Invalid(
            f"{first.command!r} is not a command", hint="`mesa --help` lists the commands"
        )
    module = importlib.import_module(f"mesafs.cli.commands.{COMMANDS[first.command][0]}")
    own = command_parser(first.command)
    module.configure(own)
    settled = own.parse_args(first.rest, _defaults(first))
    status: int = module.run(settled, context)
    return status


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command, before the command's own arguments are added."""
    return _CommandParser(prog=f"mesa {name}", description=COMMANDS[name][1].capitalize() + ".")


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument as every other error is reported."""

    def error(self, message: str) -> NoReturn:
        raise Invalid(message, hint=f"see `{self.prog} --help`")


class _CommandParser(_Parser):
    """Has the settings of every command; so have the parsers of its actions."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "parents": [_settings()]})


def _settings() -> argparse.ArgumentParser:
    """Options that every command has, before and after its name."""
    settings = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    settings.add_argument(
        "-c", "--config-path", type=Path, metavar="FILE", help="read settings from this file alone"
    )
    settings.add_argument(
        "-y", "--non-interactive", action="store_true", help="never ask, take the defaults"
    )
    settings.add_argument("--api-url", metavar="URL", help="the server (MESA_API_URL)")
    settings.add_argument("--org", metavar="ORG", help="the organisation (MESA_ORG)")
    settings.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="certificates to trust too (MESA_CA_FILE)"
    )
    return settings


def _defaults(first: argparse.Namespace) -> argparse.Namespace:
    """What was said before the command's name, over what nobody said."""
    nobody = {
        "config_path": None,
        "non_interactive": False,
        "api_url": None,
        "org": None,
        "ca_file": None,
    }
    said = {name: value for name, value in vars(first).items() if name in nobody}
    return argparse.Namespace(**{**nobody, **said})


def _list_of_commands() -> str:
    lines = (f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items())
    return "commands:\n" + "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
