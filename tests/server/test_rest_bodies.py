"""Hostile requests: refused with the envelope, in words, with nothing stored."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from mesafs.testing.server import RunningServer
from support.rest import ROOT, Rest

JSON = {"Content-Type": "application/json"}


def count_operations(server: RunningServer) -> int:
    with closing(sqlite3.connect(server.data_dir / "catalogue.sqlite")) as database:
        (count,) = database.execute("SELECT count(*) FROM operations").fetchone()
        return int(count)


def refused(server: RunningServer, rest: Rest, body: bytes, headers: dict[str, str]) -> str:
    """Send a body to the creation of repositories; returns the message."""
    before = count_operations(server)
    answer = rest.send("POST", f"{rest.prefix}/{rest.org}/repos", body, headers)
    assert answer.status == 400, answer.body
    assert answer.code in {"INVALID_REQUEST", "LIMIT_EXCEEDED"}
    assert count_operations(server) == before
    rest.get("/whoami", expect=200)
    return answer.message


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"null", "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b'""', "must be a JSON object"),
        (b"{", "not JSON"),
        (b"{}{}", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ('{"name":"é"}'.encode("utf-16"), "not UTF-8"),
        ('{"name":"é"}'.encode("latin-1"), "not UTF-8"),
        (b'{"name":"a","name":"b"}', "given twice"),
        (b'{"name":"a","n\\u0061me":"b"}', "given twice"),
        (b'{"tags":{"a":"1","a":"2"}}', "given twice"),
        (b'{"name":NaN}', "not a whole number"),
        (b'{"name":Infinity}', "not a whole number"),
        (b'{"name":1e999}', "not a whole number"),
        (b'{"name":1.0}', "not a whole number"),
        (b'{"name":-0}', "not a number"),
        (b'{"name":' + b"9" * 5000 + b"}", "not a number"),
        (b'{"name":9223372036854775808}', "not a number"),
        (b'{"name":1}', "name is not text"),
        (b'{"name":[]}', "name is not text"),
        (b'{"tags":"a"}', "tags is not an object"),
        (b'{"tags":{"a":1}}', "tags.a is not text"),
        (b'{"tags":{"a":null}}', "tags.a is not text"),
        (b'{"name":"a\\u0000b"}', "holds NUL"),
        (b'{"name":"\\ud800"}', "lone surrogate"),
        (b'{"nmae":"a"}', "'nmae' is not a member"),
        (b'{"tags":' + b"[" * 33 + b"]" * 33 + b"}", "nested deeper"),
        (b"[" * 10_000, "nested deeper"),
        (b"[" * 1_000_000, "nested deeper"),
        (b'{"tags":{%s}}' % b",".join(b'"%d":"x"' % at for at in range(10_001)), "10000 members"),
    ],
)
def test_a_body_that_readers_could_disagree_about_is_refused(
    server: RunningServer, rest: Rest, body: bytes, complaint: str
) -> None:
    assert complaint in refused(server, rest, body, JSON)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/jsonx",
    ],
)
def test_a_body_that_does_not_say_it_is_json_is_refused(
    server: RunningServer, rest: Rest, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}

    assert "Content-Type" in refused(server, rest, b"{}", headers)


def test_a_compressed_body_is_refused(server: RunningServer, rest: Rest) -> None:
    assert "Content-Encoding" in refused(server, rest, b"{}", {**JSON, "Content-Encoding": "gzip"})


def test_a_stated_length_over_the_limit_is_refused_before_the_body_is_read(
    server: RunningServer, rest: Rest
) -> None:
    answer = raw(
        server,
        f"POST /v1/{rest.org}/repos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rest.credential}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {(64 << 20) + 1}\r\n\r\n".encode(),
    )

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"larger than 67108864 bytes" in answer


def test_a_wrong_credential_is_told_before_the_body_is_awaited(server: RunningServer) -> None:
    answer = raw(
        server,
        b"POST /v1/my-org/repos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
        b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
    )

    assert answer.startswith(b"HTTP/1.1 401")


def raw(server: RunningServer, request: bytes) -> bytes:
    """Send bytes and return what comes first, without ending the request."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"}}"):
            part = connection.recv(65536)
            if not part:
                break
            answer += part
        return answer


@pytest.mark.parametrize(
    "content",
    ["YQ", "YQ=", "YQ==\n", " YQ==", "YQ===", "Y=Q=", "_w==", "YR==", "ÿÿÿÿ", "not base64!"],
)
def test_base64_has_one_spelling(rest: Rest, repo: str, content: str) -> None:
    body = {
        "base_change_id": ROOT,
        "message": "m",
        "author": {"name": "A", "email": "a@b.c"},
        "files": [{"path": "a", "content": content}],
    }

    answer = rest.post(f"/{rest.org}/{repo}/changes", body)

    assert answer.status == 400
    assert "files[0]: content is not standard base64 with padding" in answer.message


@pytest.mark.parametrize(
    "limit", ["0", "-1", "101", "1e2", "050", "%EF%BC%91%EF%BC%90", "", "1.0", "true", "5&limit=5"]
)
def test_a_limit_is_a_whole_number_from_1_to_100(rest: Rest, limit: str) -> None:
    answer = rest.get(f"/{rest.org}/repos?limit={limit}")

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert "limit" in answer.message


@pytest.mark.parametrize("query", ["colour=red", "limit=5&x=1", "%ff=1", "limit=%00"])
def test_an_unknown_or_unreadable_parameter_is_refused(rest: Rest, query: str) -> None:
    assert rest.get(f"/{rest.org}/repos?{query}").status == 400


PATHS: list[Any] = [
    "",
    "/",
    "/etc/passwd",
    "a//b",
    "a/./b",
    "a/../b",
    "a/",
    "..",
    ".git/config",
    "x/.GIT/y",
    "git~1",
    ".git ",
    ".g\u200cit",
    "a\\.git\\hooks",
    "a" * 256,
    "/".join(["d"] * 257),
    "/".join(["d" * 200] * 21),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:20])
def test_a_path_that_no_repository_may_hold_is_refused(
    server: RunningServer, rest: Rest, repo: str, path: str
) -> None:
    before = count_operations(server)
    body = {
        "base_change_id": ROOT,
        "message": "m",
        "author": {"name": "A", "email": "a@b.c"},
        "files": [{"path": "fine", "content": ""}, {"path": path, "content": ""}],
    }

    answer = rest.post(f"/{rest.org}/{repo}/changes", body)

    assert answer.status == 400
    assert "files[1]" in answer.message
    assert count_operations(server) == before
    assert rest.get(f"/{rest.org}/{repo}", expect=200).json()["head_change_id"] == ROOT


@pytest.mark.parametrize(
    "name",
    [
        ".",
        "..",
        "a.git",
        "A.GIT",
        "api-keys",
        "REPOS",
        "whoami",
        "mcp",
        "install.sh",
        "-x",
        "x" * 101,
        "a/b",
        "a%2fb",
        "a.",
        "",
        "naïve",
        "🙂",
        "a b",
        "webhook-targets",
    ],
)
def test_a_repository_name_that_would_not_be_safe_is_refused(rest: Rest, name: str) -> None:
    answer = rest.post(f"/{rest.org}/repos", {"name": name})

    assert answer.status == 400
    assert "cannot be the name of a repository" in answer.message


@pytest.mark.parametrize(
    "author",
    [
        {"name": "", "email": "a@b.c"},
        {"name": "a<b", "email": "a@b.c"},
        {"name": "a\nb", "email": "a@b.c"},
        {"name": "x" * 201, "email": "a@b.c"},
        {"name": "A", "email": "nobody"},
        {"name": "A", "email": "a b@c.d"},
        {"name": "A", "email": "a@b.c", "date": "0000-01-01T00:00:00Z"},
        {"name": "A", "email": "a@b.c", "date": "9999-01-01T00:00:00Z"},
        {"name": "A", "email": "a@b.c", "date": "1969-01-01T00:00:00Z"},
        {"name": "A", "email": "a@b.c", "date": "2024-01-01T00:00:00+99:99"},
        {"name": "A", "email": "a@b.c", "date": "2024-06-30T23:59:60Z"},
        {"name": "A", "email": "a@b.c", "date": 5},
        {"name": "A"},
        "A",
    ],
)
def test_an_author_that_git_could_not_keep_is_refused(rest: Rest, repo: str, author: Any) -> None:
    body = {"base_change_id": ROOT, "message": "m", "author": author}

    answer = rest.post(f"/{rest.org}/{repo}/changes", body)

    assert answer.status == 400
    assert "author" in answer.message


def test_every_error_body_is_ascii_json(rest: Rest) -> None:
    answer = rest.post(f"/{rest.org}/repos", {"name": "\u202e\u2028é"})

    assert answer.body.isascii()
    assert json.loads(answer.body)["error"]["message"].startswith("'")
