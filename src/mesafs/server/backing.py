"""What every use case stands on: catalogue, objects, time, randomness and the server's own secret."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from mesafs.base.clock import Clock
from mesafs.base.files import Files
from mesafs.server.config import Settings
from mesafs.server.shutdown import Shutdown
from mesafs.store.catalogue import Catalogue
from mesafs.store.object_stores import ObjectStores


@dataclass(frozen=True, slots=True)
class Backing:
    """Opened by ``server.app``, closed by whoever opened it."""

    settings: Settings
    catalogue: Catalogue
    objects: ObjectStores
    clock: Clock
    files: Files
    server_secret: bytes = field(repr=False)
    shutdown: Shutdown = field(default_factory=Shutdown)
    #: ``entropy(n)`` gives n unpredictable bytes.
    entropy: Callable[[int], bytes] = secrets.token_bytes

    def derived_secret(self, purpose: bytes) -> bytes:
        """A secret of its own for each purpose, such as signing cursors."""
        return hmac.digest(self.server_secret, b"mesa " + purpose, "sha256")
