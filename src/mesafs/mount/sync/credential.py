"""What the credential allows now, and what that means to every program in the mount.

| credential                     | reads                     | writes                  |
|--------------------------------|---------------------------|-------------------------|
| valid                          | yes                       | yes                     |
| expired                        | EACCES                    | EACCES                  |
| expired, and grace was asked   | what is cached            | into the journal        |
| revoked, narrowed, deleted     | EACCES                    | EACCES                  |
| server unreachable             | what is cached, else EIO  | into the journal        |

Invariant: a state is set on every checkout, with the lock held, before the kernel is told to forget;
so what the kernel asks again it is answered by the new state.
"""

from __future__ import annotations

import errno
import logging
from enum import Enum

from mesafs.mount.fuse.notifications import Notifier
from mesafs.mount.inodes import Inodes

log = logging.getLogger(__name__)


class CredentialState(Enum):
    """How the credential stands."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    NARROWED = "narrowed"


class Access:
    """The state, applied to the checkouts."""

    def __init__(self, inodes: Inodes, *, grace: bool) -> None:
        self._inodes = inodes
        self._grace = grace
        self.notifier: Notifier | None = None
        self.state = CredentialState.VALID
        self.expires_at_seconds: int | None = None
        #: Why the state is what it is, for a person.
        self.reason: str | None = None

    def renewed(self, expires_at_seconds: int | None) -> None:
        """A credential was accepted."""
        self.expires_at_seconds = expires_at_seconds
        self._set(CredentialState.VALID, None)

    def refused(self, state: CredentialState, reason: str) -> None:
        """The credential is no longer accepted."""
        if self.state is state or (
            state is CredentialState.EXPIRED and self.state is not CredentialState.VALID
        ):
            return
        log.warning("credential %s: %s", state.value, reason)
        self._set(state, reason)

    def _set(self, state: CredentialState, reason: str | None) -> None:
        valid = state is CredentialState.VALID
        lenient = state is CredentialState.EXPIRED and self._grace
        code = 0 if valid or lenient else errno.EACCES
        with self._inodes.lock:
            changed = self.state is not state
            self.state, self.reason = state, reason
            for checkout in self._inodes.checkouts:
                checkout.refuse_reads = checkout.refuse_writes = code
            known = list(self._inodes.table) if changed else []
        if self.notifier is None or not changed:
            return
        # Whatever the kernel answered by itself until now it has to ask for again.
        self.notifier.increment_epoch()
        for ino in known:
            self.notifier.inval_inode(ino)
