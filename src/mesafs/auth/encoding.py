"""Base64url without padding, as compact JWS uses it, with exactly one spelling for each value.

The decoder of the standard library skips characters it does not know, takes both alphabets and
ignores spare bits; a credential must not have several spellings, so :func:`decode` refuses all that.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes | None:
    """The bytes that ``text`` is the canonical spelling of, or None when it is not one."""
    if _ALPHABET.fullmatch(text) is None or len(text) % 4 == 1:
        return None
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return data if encode(data) == text else None
