"""Finding, or making, the folder of a checkout: the place where its journal waits.

``<state>/<server id>/<repository id>/<checkout id>``, locked by the daemon that uses it. A checkout's
id is drawn once and is known to the server; its folder says which mount point and bookmark it
belongs to, so that the next mount there resumes its journal.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from mesafs.base.clock import Clock
from mesafs.base.files import Files
from mesafs.model.ids import CheckoutId, RepositoryId
from mesafs.mount.state_folder import FolderInUse, StateFolder, private_folder

_PLACE = "place.json"
#: A daemon that was just unmounted may still be on its way out.
_ENDING_DAEMON_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """What a checkout shows, and where."""

    server: str
    repository: RepositoryId
    mount_point: str
    bookmark: str


def open_folder(
    state: Path, place: Place, *, fresh_id: str, ephemeral: bool, clock: Clock, files: Files
) -> tuple[CheckoutId, StateFolder]:
    """The locked folder of the checkout at ``place``; made under ``fresh_id`` if there is none."""
    above = private_folder(state, place.server, place.repository)
    wanted = {"mount_point": place.mount_point, "bookmark": place.bookmark}
    checkout = next((name for name in os.listdir(above) if _read(above / name) == wanted), fresh_id)
    parts = (place.server, place.repository, checkout)
    folder = _locked(state, parts, ephemeral=ephemeral, clock=clock)
    target = folder.path / _PLACE
    if not target.exists():
        staged = folder.path / f"{_PLACE}.new"
        files.write("place.stage", staged, json.dumps(wanted).encode())
        files.publish("place.publish", staged, target)
        for holder in (above, above.parent, state):  # a journal nobody finds again is a lost one
            files.sync_directory("place.dirsync", holder)
    return CheckoutId(checkout), folder


def _read(folder: Path) -> object:
    try:
        return json.loads((folder / _PLACE).read_bytes())
    except (OSError, ValueError):
        return None


def _locked(state: Path, parts: tuple[str, ...], *, ephemeral: bool, clock: Clock) -> StateFolder:
    deadline = clock.monotonic() + _ENDING_DAEMON_SECONDS
    while True:
        try:
            return StateFolder.open(state, parts, ephemeral=ephemeral)
        except FolderInUse:
            if clock.monotonic() > deadline:
                raise
            clock.wait(threading.Event(), 0.05)
