"""The only place that prints. Results go to stdout, everything about them to stderr.

Text that came from a server or a file is made harmless first: no control character, no escape
sequence and no change of writing direction reaches the terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, BinaryIO, TextIO

_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: str) -> str:
    """``text`` with everything that a terminal would act on spelled out; line ends and tabs stay."""
    return _HARMFUL.sub(lambda match: _spelled(match[0]), text)


def one_line(text: str) -> str:
    """The same, line ends and tabs spelled out too."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def _spelled(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class Output:
    """Writes for one command. ``as_json`` is what ``--json`` said."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._shows_progress = False

    def line(self, text: str = "") -> None:
        """One line of a result."""
        self._end_progress()
        self._write(self._stdout, one_line(text) + "\n")

    def text(self, text: str) -> None:
        """Several lines of a result."""
        self._end_progress()
        self._write(self._stdout, harmless(text))

    def json(self, value: Any) -> None:
        self._end_progress()
        self._write(self._stdout, json.dumps(value, indent=2) + "\n")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns as wide as their widest cell; without a heading when there are no rows."""
        if not rows:
            return
        cells = [[one_line(cell) for cell in row] for row in (headings, *rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
        for row in cells:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.line("  ".join(padded).rstrip())

    def bytes(self, content: bytes) -> None:
        """Content of a file, unchanged: whoever asked for it gets its bytes."""
        self._end_progress()
        binary: BinaryIO = self._stdout.buffer
        binary.write(content)
        binary.flush()

    def note(self, text: str) -> None:
        """Something to know about a result."""
        self._end_progress()
        self._write(self._stderr, one_line(text) + "\n")

    def progress(self, text: str) -> None:
        """A line that the next one replaces; only where a person watches."""
        if self._stderr.isatty():
            self._write(self._stderr, f"\r\x1b[K{one_line(text)}")
            self._shows_progress = True

    def error(self, message: str, hint: str | None = None) -> None:
        """``mesa: message``, and the remedy on a line of its own."""
        self.note(f"mesa: {message}")
        if hint:
            self.note(f"hint: {hint}")

    def _end_progress(self) -> None:
        if self._shows_progress:
            self._shows_progress = False
            self._write(self._stderr, "\r\x1b[K")

    def _write(self, stream: TextIO, text: str) -> None:
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
