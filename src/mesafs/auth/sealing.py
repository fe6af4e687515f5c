"""What a server keeps of an API key, so that a copy of its database alone can sign nothing.

The signing secret of a key equals a hash of the key, so the catalogue must not hold it in the clear:
it holds a keyed digest to look the key up by, and the secret sealed with AES-256-GCM. Both need the
server secret, which is never in the database. The key id is bound as associated data: a sealed
secret moved to another row does not open.

Server only: this is the one module here that needs a third-party package.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mesafs.base.errors import Corrupt
from mesafs.model.ids import ApiKeyId

SERVER_SECRET_BYTES = 32
_NONCE_BYTES = 12


class SealBroken(Corrupt):
    """A sealed secret does not open: another server secret, another key's row, or damage."""

    default_code: ClassVar[str | None] = "INTERNAL_ERROR"

    def __init__(self, key_id: ApiKeyId) -> None:
        super().__init__(
            f"the stored secret of {key_id} cannot be opened",
            hint="start the server with the server secret that the data folder was made with",
        )
        self.key_id = key_id


def lookup(server_secret: bytes, secret: str) -> str:
    """The 64 hexadecimal digits under which a key is found; ``secret`` is its signing secret."""
    _check(server_secret)
    return hmac.digest(server_secret, secret.encode("ascii"), "sha256").hex()


def seal(
    server_secret: bytes, key_id: ApiKeyId, secret: str, entropy: Callable[[int], bytes]
) -> bytes:
    """Nonce and ciphertext of a signing secret, bound to ``key_id``."""
    nonce = entropy(_NONCE_BYTES)
    sealed = _cipher(server_secret).encrypt(nonce, secret.encode("ascii"), key_id.encode())
    return nonce + sealed


def unseal(server_secret: bytes, key_id: ApiKeyId, sealed: bytes) -> str:
    """The signing secret that was sealed for ``key_id``, or :class:`SealBroken`."""
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return _cipher(server_secret).decrypt(nonce, rest, key_id.encode()).decode("ascii")
    except (InvalidTag, ValueError):
        raise SealBroken(key_id) from None


def _cipher(server_secret: bytes) -> AESGCM:
    # A key of its own, so that the lookup digest and the seal never share one.
    _check(server_secret)
    return AESGCM(hmac.digest(server_secret, b"mesa signing secret seal v1", "sha256"))


def _check(server_secret: bytes) -> None:
    assert len(server_secret) == SERVER_SECRET_BYTES, "the server secret is 32 bytes"
