"""The REST interface's shapes: written as the contract says, read without trust."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mesafs.base.clock import rfc3339
from mesafs.wire.errors import parse_envelope
from mesafs.wire.resources import (
    ApiKeyPage,
    Author,
    Bookmark,
    ChangeDetail,
    CreatedApiKey,
    Diff,
    DirectoryContent,
    ErrorDetail,
    ErrorEnvelope,
    FileContent,
    FileDelete,
    FileUpsert,
    NewApiKey,
    NewChange,
    Organisation,
    RepoPage,
    RepoUpdate,
    SymlinkContent,
    Whoami,
    content_from_json,
)
from mesafs.wire.shapes import MalformedAnswer, Shape, moment

AT = "2026-01-01T00:00:00.250+00:00"
CHANGE = "kkmpptxzrspxrzommnulwmwkkqwworpl"
COMMIT = "a" * 40
PERSON = {"name": "Ada", "email": "ada@example.org", "date": AT}

REPO: dict[str, Any] = {
    "id": "01K",
    "org": "acme",
    "name": "app",
    "default_bookmark": "main",
    "head_change_id": CHANGE,
    "upstream": None,
    "created_at": AT,
    "tags": {"team": "core"},
}
KEY: dict[str, Any] = {
    "id": "key_A",
    "name": None,
    "scopes": ["read"],
    "repo_ids": None,
    "metadata": None,
    "tags": {},
    "last_used_at": None,
    "expires_at": AT,
    "revoked_at": None,
    "created_at": AT,
}
DETAIL = {
    "id": CHANGE,
    "current_commit_oid": COMMIT,
    "is_conflicted": False,
    "message": "",
    "author": PERSON,
    "committer": {"name": "Ada", "email": "ada@example.org"},
    "parents": ["z" * 32],
    "created_at": AT,
    "updated_at": AT,
    "files": ["a.txt"],
    "conflicts": [],
}
HUNK = {
    "old_start": 1,
    "old_lines": 1,
    "new_start": 1,
    "new_lines": 2,
    "lines": [{"kind": "context", "text": "a\n"}, {"kind": "added", "text": "b\n"}],
}
DIFF = {
    "base_change_id": CHANGE,
    "head_change_id": "z" * 32,
    "stats": {
        "entries": 1,
        "additions": 1,
        "deletions": 0,
        "changes": 1,
        "conflicted_entries": 1,
        "conflicted_hunks": 1,
    },
    "truncated": False,
    "entries": [
        {
            "path": "a.txt",
            "status": "modified",
            "old_path": None,
            "is_conflicted": False,
            "omitted_reason": None,
            "hunks": [HUNK],
            "conflict_hunks": None,
            "size_bytes": 4,
        }
    ],
    "conflicted_entries": [
        {
            "path": "c.txt",
            "hunks": [
                {
                    "hunk_id": "h1",
                    "old_start": 1,
                    "old_lines": 1,
                    "new_start": 1,
                    "new_lines": 1,
                    "target": {"content": "YQ=="},
                    "base": None,
                    "source": {"content": "Yg=="},
                }
            ],
        }
    ],
}
FILE = {
    "name": "a.txt",
    "path": "d/a.txt",
    "sha": COMMIT,
    "size": 2,
    "content": "aGk=",
    "mode": "100644",
    "encoding": "base64",
    "type": "file",
}
DIRECTORY = {
    "name": "d",
    "path": "d",
    "sha": COMMIT,
    "child_count": 3,
    "entries": [
        {"type": "file", "name": "a", "path": "d/a", "sha": COMMIT, "size": 1, "mode": "100755"},
        {"type": "symlink", "name": "b", "path": "d/b", "sha": COMMIT, "size": 1, "mode": "120000"},
        {"type": "dir", "name": "c", "path": "d/c", "sha": COMMIT},
    ],
    "type": "dir",
}


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (
            Whoami,
            {
                "org": {"id": "o", "slug": "acme", "name": "Acme"},
                "key_id": "key_A",
                "key_name": None,
                "scopes": ["read", "write"],
            },
        ),
        (Organisation, {"created_at": AT, "num_repos": 3}),
        (RepoPage, {"next_cursor": "c", "has_more": True, "repos": [REPO]}),
        (ApiKeyPage, {"next_cursor": None, "has_more": False, "api_keys": [KEY]}),
        (Bookmark, {"name": "feat/x", "change_id": CHANGE, "is_default": False}),
        (ChangeDetail, DETAIL),
        (Diff, DIFF),
        (FileContent, FILE),
        (DirectoryContent, DIRECTORY),
        (RepoUpdate, {"tags": {"team": None}}),
        (ErrorEnvelope, {"error": {"code": "NOT_FOUND", "message": "no such repository"}}),
        (
            NewChange,
            {
                "base_change_id": "z" * 32,
                "message": "m",
                "author": PERSON,
                "files": [
                    {"path": "a", "content": "", "encoding": "base64", "mode": "100755"},
                    {"path": "b", "action": "delete"},
                ],
            },
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_body_read_and_written_again_is_the_same(shape: type[Shape], body: Any) -> None:
    if shape is NewChange:
        files = (
            FileUpsert("a", "", mode="100755"),
            FileDelete("b"),
        )
        value: Shape = NewChange(
            "z" * 32, "m", Author("Ada", "ada@example.org", datetime.fromisoformat(AT)), None, files
        )
    else:
        value = shape.from_json(body)

    assert json.loads(json.dumps(value.to_json())) == body


def test_content_is_told_apart_by_its_type() -> None:
    link = {**FILE, "type": "symlink", "mode": "120000"}

    assert isinstance(content_from_json(FILE), FileContent)
    assert isinstance(content_from_json(link), SymlinkContent)
    directory = content_from_json(DIRECTORY)
    assert isinstance(directory, DirectoryContent)
    assert [entry.type_ for entry in directory.entries] == ["file", "symlink", "dir"]
    assert directory.is_dir()
    assert not directory.is_file()


def test_members_of_a_later_server_are_skipped() -> None:
    assert Bookmark.from_json(
        {"name": "main", "change_id": CHANGE, "is_default": True, "protected": True}
    ) == Bookmark("main", CHANGE, is_default=True)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ([], "the body is not an object"),
        (None, "the body is not an object"),
        ({"next_cursor": None, "repos": []}, "has_more is missing"),
        ({"next_cursor": None, "has_more": 0, "repos": []}, "has_more is not true or false"),
        ({"next_cursor": None, "has_more": False, "repos": {}}, "repos is not a list"),
        (
            {"next_cursor": None, "has_more": False, "repos": [{**REPO, "name": 7}]},
            r"repos\[0\].name is not text",
        ),
        (
            {"next_cursor": None, "has_more": False, "repos": [{**REPO, "created_at": "soon"}]},
            "created_at is not a time",
        ),
        (
            {"next_cursor": None, "has_more": False, "repos": [{**REPO, "tags": {"a": 1}}]},
            "tags.a is not text",
        ),
    ],
)
def test_an_answer_of_another_shape_is_an_error_that_names_the_member(body: Any, why: str) -> None:
    with pytest.raises(MalformedAnswer, match=why):
        RepoPage.from_json(body)


def test_true_is_not_a_number() -> None:
    with pytest.raises(MalformedAnswer, match="num_repos is not a whole number"):
        Organisation.from_json({"created_at": AT, "num_repos": True})


def test_content_of_an_unknown_type_is_an_error() -> None:
    with pytest.raises(MalformedAnswer, match="none of file, symlink, dir"):
        content_from_json({**FILE, "type": "socket"})


@pytest.mark.parametrize("text", [AT, "2026-01-01T00:00:00.250Z", "2026-01-01T00:00:00.250"])
def test_times_are_read_in_every_common_spelling_and_written_in_one(text: str) -> None:
    value = Organisation.from_json({"created_at": text, "num_repos": 0})

    assert value.to_json()["created_at"] == AT


def test_a_moment_is_written_as_the_clock_writes_it() -> None:
    now_ns = 1_767_225_600_123_999_999
    value = Organisation(created_at=moment(now_ns), num_repos=0)

    assert value.created_at == datetime(2026, 1, 1, 0, 0, 0, 123_000, UTC)
    assert value.to_json()["created_at"] == rfc3339(now_ns)


def test_what_is_not_said_is_left_out_of_a_request() -> None:
    assert NewApiKey().to_json() == {}
    assert NewApiKey(scopes=("read",)).to_json() == {"scopes": ["read"]}


def test_a_created_key_does_not_show_its_text_when_printed() -> None:
    created = CreatedApiKey("key_A", "mesa_live_secret", None, ("read",), None, {}, moment(0))

    assert "mesa_live_secret" not in repr(created)
    assert created.to_json()["key"] == "mesa_live_secret"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error": "x"}', b'{"error": {}}', b"\xff", b"[" * 100_000]
)
def test_a_body_that_is_not_the_envelope_is_no_error_of_ours(body: bytes) -> None:
    assert parse_envelope(body) is None


def test_the_envelope_is_read() -> None:
    body = b'{"error": {"code": "X", "message": "m", "details": {"a": 1}}}'

    assert parse_envelope(body) == ErrorDetail("X", "m", {"a": 1})
