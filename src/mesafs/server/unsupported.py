"""What the contract has and this version does not: said so, never pretended."""

from __future__ import annotations

from typing import ClassVar

from mesafs.base.errors import Invalid
from mesafs.wire.errors import NOT_IMPLEMENTED


class Unsupported(Invalid):
    default_code: ClassVar[str | None] = NOT_IMPLEMENTED

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not implemented in this version",
            hint="docs/compatibility.md lists what is",
        )
