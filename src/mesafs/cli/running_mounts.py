"""Finding the daemons of this user, for every command that talks to one."""

from __future__ import annotations

import os
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mesafs.base.errors import MesaError
from mesafs.cli.context import Context
from mesafs.mount import control
from mesafs.mount.config import Places, places
from mesafs.mount.control import ControlClient, Instance


@dataclass(frozen=True, slots=True)
class RunningMounts:
    """Where daemons are looked for, and which mount point is meant when none is named."""

    places: Places
    default: Path | None

    @staticmethod
    def of(arguments: Namespace, context: Context) -> RunningMounts:
        """Works with a broken configuration too: one wants to see and end mounts all the more then."""
        runtime = default = None
        with suppress(MesaError):
            config = context.config(arguments)
            runtime, default = config.runtime_path, config.mount_point
        return RunningMounts(places(context.environ, runtime=runtime), default)

    def find(self, path: str | None) -> Instance:
        """The daemon whose mount ``path`` is in; without it the default one, or the only one."""
        wanted = None if path is None else absolute(path)
        return control.find(self.places.runtime, wanted, default=self.default)

    def client(self, instance: Instance) -> ControlClient:
        return ControlClient(self.places.runtime, instance)


def absolute(path: str) -> Path:
    """By names alone above the last one: a dead mount must not be touched to be found."""
    return Path(os.path.normpath(Path.cwd() / Path(path).expanduser()))
