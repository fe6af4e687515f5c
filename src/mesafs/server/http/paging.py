"""Pages: a cursor is opaque, authenticated, and of use only where it came from.

It carries a position and no right. It is bound to the listing with its filters, and to the key that
got it; the position names the last row seen, so that rows which come or go in between neither
repeat nor skip the others.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mesafs.auth.encoding import decode, encode
from mesafs.auth.principals import Principal
from mesafs.base.errors import Invalid
from mesafs.server.backing import Backing
from mesafs.server.http.queries import Query

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
MAX_CURSOR_LENGTH = 16_384
_TAG_BYTES = 16


class BadCursor(Invalid):
    def __init__(self) -> None:
        super().__init__(
            "cursor is not one that this listing gave",
            hint="begin again without a cursor; keep the filters the same from page to page",
        )


@dataclass(frozen=True, slots=True)
class Paging:
    """What one request asks of a listing."""

    limit: int
    #: The position after which the page begins; None at the beginning.
    after: Any
    _cursors: Cursors
    _binding: bytes

    def cursor(self, position: Any, *, more: bool) -> str | None:
        """The cursor of the next page, when there is one."""
        return self._cursors.seal(position, self._binding) if more else None


class Cursors:
    """Makes and opens cursors under a secret of the server."""

    def __init__(self, backing: Backing) -> None:
        self._secret = backing.derived_secret(b"cursors v1")

    def paging(
        self, query: Query, principal: Principal, listing: str, filters: Sequence[Any] = ()
    ) -> Paging:
        """Read ``limit`` and ``cursor``. ``listing`` and ``filters`` must say all that the page depends on."""
        limit = query.integer("limit", low=1, high=MAX_LIMIT, default=DEFAULT_LIMIT)
        binding = json.dumps(
            [principal.organisation, principal.key_id, listing, list(filters)]
        ).encode()
        text = query.text("cursor")
        after = None if text is None else self.open(text, binding)
        return Paging(limit, after, self, binding)

    def seal(self, position: Any, binding: bytes) -> str:
        body = json.dumps(position, separators=(",", ":")).encode()
        return encode(self._tag(body, binding) + body)

    def open(self, text: str, binding: bytes) -> Any:
        data = decode(text) if len(text) <= MAX_CURSOR_LENGTH and text.isascii() else None
        if data is None or len(data) <= _TAG_BYTES:
            raise BadCursor
        tag, body = data[:_TAG_BYTES], data[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(body, binding)):
            raise BadCursor
        return json.loads(body)

    def _tag(self, body: bytes, binding: bytes) -> bytes:
        return hmac.digest(self._secret, len(binding).to_bytes(4) + binding + body, "sha256")[
            :_TAG_BYTES
        ]
