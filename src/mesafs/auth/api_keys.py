"""API keys: their text, their id, and the secret with which their tokens are signed.

A key is ``mesa_live_<26 Crockford characters>_<43 base64url characters>`` and its id is ``key_`` and
the same 26, so whoever holds a key can sign without asking the server for its id. Keys of another
form come from another server and are opaque. What a server keeps of a key is in ``auth.sealing``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from mesafs.auth.encoding import encode
from mesafs.model.ids import ApiKeyId, ulid

PREFIX = "mesa_live_"
ID_PREFIX = "key_"
_FORM = re.compile(r"mesa_live_([0-9A-HJKMNP-TV-Z]{26})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at its creation: the only moment at which its text exists on the server."""

    id: ApiKeyId
    text: str = field(repr=False)


def generate(now_ns: int, entropy: Callable[[int], bytes]) -> NewKey:
    """Make a key; ``entropy(n)`` gives n unpredictable bytes (``secrets.token_bytes``)."""
    name = ulid(now_ns, entropy(10))
    return NewKey(ApiKeyId(ID_PREFIX + name), f"{PREFIX}{name}_{encode(entropy(32))}")


def key_id_of(text: str) -> ApiKeyId | None:
    """The id inside a key of our form; None for a token or a key of another server."""
    match = _FORM.fullmatch(text)
    return None if match is None else ApiKeyId(ID_PREFIX + match[1])


def signing_secret(text: str) -> str:
    """The secret of a key's tokens. Its ASCII letters, not the digest's bytes, key the HMAC."""
    return encode(sha256(text.encode("utf-8", "surrogatepass")).digest())
