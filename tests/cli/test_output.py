"""What reaches a terminal: results as they are, foreign text made harmless."""

from __future__ import annotations

import io
import json

import pytest

from mesafs.cli.output import Output, harmless, one_line


def output() -> tuple[Output, io.TextIOWrapper, io.StringIO]:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stderr = io.StringIO()
    return Output(stdout, stderr), stdout, stderr


def text_of(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 日本", "plain ünïcode 日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\x08c\x07", "a\\x0db\\x08c\\x07"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\ud800", "\\ud800"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ],
)
def test_what_a_terminal_would_act_on_is_spelled_out(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_one_line_stays_one_line() -> None:
    assert one_line("a\nhint: run rm\tb") == "a\\nhint: run rm\\tb"


def test_an_error_is_one_line_and_a_hint() -> None:
    out, stdout, stderr = output()

    out.error("no\nsuch \x1b[2Jthing", "look elsewhere")

    assert stderr.getvalue() == "mesa: no\\nsuch \\x1b[2Jthing\nhint: look elsewhere\n"
    assert text_of(stdout) == ""


def test_a_table_aligns_its_columns() -> None:
    out, stdout, _ = output()

    out.table(("NAME", "SIZE"), [("a", "1"), ("longer", "22")])

    assert text_of(stdout) == "NAME    SIZE\na       1\nlonger  22\n"


def test_json_is_json() -> None:
    out, stdout, _ = output()

    out.json({"a": "\x1b"})

    assert json.loads(text_of(stdout)) == {"a": "\x1b"}
    assert "\x1b" not in text_of(stdout)


def test_bytes_are_not_changed() -> None:
    out, stdout, _ = output()

    out.bytes(b"\x1b\xff\n")

    assert isinstance(stdout.buffer, io.BytesIO)
    assert stdout.buffer.getvalue() == b"\x1b\xff\n"


def test_a_terminal_of_another_encoding_is_no_reason_to_fail() -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    Output(stdout, io.StringIO()).line("caf\u00e9")

    assert isinstance(stdout.buffer, io.BytesIO)
    assert stdout.buffer.getvalue() == b"caf\\xe9\n"
