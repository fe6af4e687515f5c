"""What a command is given: settings, output, clock, and the client it may open.

A command is a module in ``mesafs.cli.commands`` with two functions::

    def configure(parser: argparse.ArgumentParser) -> None: ...
    def run(arguments: argparse.Namespace, context: Context) -> int: ...   # the exit status

It raises ``base.errors`` and lets ``cli.main`` report them. Every parser already has
``-c/--config-path``, ``-y/--non-interactive``, ``--api-url``, ``--org`` and ``--ca-file``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesafs.base.clock import Clock
from mesafs.cli.output import Output

if TYPE_CHECKING:
    from mesafs.sdk.config import ClientConfig
    from mesafs.sync import Mesa


@dataclass(frozen=True, slots=True)
class Context:
    environ: Mapping[str, str]
    output: Output
    clock: Clock

    def config(self, arguments: argparse.Namespace) -> ClientConfig:
        """Settings by flags, environment and files; ``--mount-point`` and ``--repo`` where they are."""
        from mesafs.sdk.config import ClientConfig, Flags  # noqa: PLC0415 - `mesa version` needs none

        mount_flags = getattr(arguments, "mount_repositories", None) or ()
        flags = Flags(
            config_path=arguments.config_path,
            api_url=arguments.api_url,
            org=arguments.org,
            ca_file=arguments.ca_file,
            mount_point=getattr(arguments, "mount_point", None),
            api_key_file=getattr(arguments, "api_key_file", None),
            repositories=tuple(mount_flags),
        )
        return ClientConfig.load(flags, self.environ)

    def client(self, arguments: argparse.Namespace) -> Mesa:
        """A blocking client; the caller closes it."""
        from mesafs.sync import Mesa  # noqa: PLC0415 - only commands that talk to the server pay

        return Mesa(config=self.config(arguments), clock=self.clock)
