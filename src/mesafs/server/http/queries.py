"""Query strings: each parameter at most once, each known, each of its type."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from mesafs.base.errors import Invalid

MAX_PARAMETERS = 100
_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}")


class Query:
    """The parameters of one request. Take what the operation knows, then :meth:`finish`."""

    def __init__(self, raw: bytes) -> None:
        try:
            pairs = parse_qsl(
                raw.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MAX_PARAMETERS,
            )
        except ValueError:
            raise Invalid(
                "the query string is not readable", hint="percent-encode UTF-8 text"
            ) from None
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name in self._values:
                raise Invalid(f"{name[:100]!r} is given twice")
            if "\0" in name or "\0" in value:
                raise Invalid(f"{name[:100]!r} holds NUL")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        return self._values.pop(name, None)

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise Invalid(f"{name} is missing")
        return value

    def filled(self, name: str) -> str | None:
        """A text that may be left out but not empty."""
        value = self.text(name)
        if value == "":
            raise Invalid(f"{name} is empty")
        return value

    def integer(self, name: str, *, low: int, high: int, default: int) -> int:
        value = self.text(name)
        if value is None:
            return default
        if _WHOLE.fullmatch(value) is None or not low <= int(value) <= high:
            raise Invalid(f"{name} must be a whole number from {low} to {high}")
        return int(value)

    def choice(self, name: str, choices: tuple[str, ...], *, default: str | None) -> str | None:
        value = self.text(name)
        if value is None:
            return default
        if value not in choices:
            raise Invalid(f"{name} is none of {', '.join(choices)}")
        return value

    def rest(self) -> dict[str, str]:
        """What nobody has taken."""
        rest, self._values = self._values, {}
        return rest

    def finish(self) -> None:
        for name in self._values:
            raise Invalid(f"{name[:100]!r} is not a parameter of this operation")
