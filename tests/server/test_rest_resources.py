"""Repositories, keys, bookmarks, changes, content and diffs, as the contract has them."""

from __future__ import annotations

import base64
import re
import threading
from typing import Any

import pytest

from support.rest import AUTHOR, ROOT, Answer, Rest, upsert

CHANGE_ID = re.compile(r"[k-z]{32}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")


def test_a_new_repository_is_empty_and_has_its_default_bookmark(rest: Rest) -> None:
    made = rest.post(
        f"/{rest.org}/repos", {"default_bookmark": "trunk", "tags": {"Team": "x"}}, expect=201
    ).json()

    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", made["name"])
    assert set(made) == {
        "id",
        "org",
        "name",
        "default_bookmark",
        "head_change_id",
        "upstream",
        "created_at",
        "tags",
    }
    assert (made["head_change_id"], made["upstream"], made["tags"]) == (ROOT, None, {"team": "x"})
    assert MOMENT.fullmatch(made["created_at"])
    listed = rest.get(f"/{rest.org}/{made['name']}/bookmarks", expect=200).json()["bookmarks"]
    assert listed == [{"name": "trunk", "change_id": ROOT, "is_default": True}]


def test_a_name_that_differs_by_case_alone_is_taken(rest: Rest, repo: str) -> None:
    answer = rest.post(f"/{rest.org}/repos", {"name": repo.upper()})

    assert (answer.status, answer.code) == (409, "ALREADY_EXISTS")
    rest.get(f"/{rest.org}/{repo.upper()}", expect=404)


def test_twenty_at_once_make_one_repository(rest: Rest, repo: str) -> None:
    answers: list[Answer] = []

    def create() -> None:
        with rest.as_(rest.credential) as own:
            answers.append(own.post(f"/{rest.org}/repos", {"name": f"{repo}-once"}))

    threads = [threading.Thread(target=create) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer.status for answer in answers) == [201] + [409] * 19


def test_what_an_update_leaves_out_stays(rest: Rest, repo: str) -> None:
    path = f"/{rest.org}/{repo}"
    rest.patch(path, {"tags": {"a": "1", "b": "2"}}, expect=200)

    updated = rest.patch(path, {"tags": {"a": None, "C": "3"}, "upstream": None}, expect=200).json()

    assert updated["tags"] == {"b": "2", "c": "3"}
    assert (updated["name"], updated["default_bookmark"]) == (repo, "main")


def test_the_default_bookmark_must_exist(rest: Rest, repo: str) -> None:
    path = f"/{rest.org}/{repo}"
    assert rest.patch(path, {"default_bookmark": "dev"}).status == 404
    rest.post(f"{path}/bookmarks", {"name": "dev", "change_id": ROOT}, expect=201)

    updated = rest.patch(path, {"default_bookmark": "dev"}, expect=200).json()

    assert updated["default_bookmark"] == "dev"


def test_tags_filter_the_list(rest: Rest, repo: str) -> None:
    rest.patch(f"/{rest.org}/{repo}", {"tags": {"team": repo, "env": "Prod"}}, expect=200)

    both = rest.get(f"/{rest.org}/repos?tags=team:{repo},env:prod", expect=200).json()["repos"]
    none = rest.get(f"/{rest.org}/repos?tags=team:{repo},env:dev", expect=200).json()["repos"]

    assert [each["name"] for each in both] == [repo]
    assert none == []


def test_a_deleted_repository_is_gone_and_its_name_is_free(rest: Rest, repo: str) -> None:
    first = rest.get(f"/{rest.org}/{repo}", expect=200).json()

    assert rest.delete(f"/{rest.org}/{repo}", expect=200).json() == {"success": True}

    for tail in ("", "/bookmarks", "/changes", "/content"):
        rest.get(f"/{rest.org}/{repo}{tail}", expect=404)
    rest.delete(f"/{rest.org}/{repo}", expect=404)
    again = rest.post(f"/{rest.org}/repos", {"name": repo}, expect=201).json()
    assert again["id"] != first["id"]


def test_an_upstream_is_refused_and_not_half_stored(rest: Rest, repo: str) -> None:
    upstream = {"url": "https://example.com/x.git"}

    answers = [
        rest.post(f"/{rest.org}/repos", {"name": f"{repo}-up", "upstream": upstream}),
        rest.patch(f"/{rest.org}/{repo}", {"name": f"{repo}-new", "upstream": upstream}),
    ]

    assert {(answer.status, answer.code) for answer in answers} == {(400, "NOT_IMPLEMENTED")}
    rest.get(f"/{rest.org}/{repo}-up", expect=404)
    rest.get(f"/{rest.org}/{repo}", expect=200)


def test_a_key_is_shown_once(rest: Rest, repo: str) -> None:
    repo_id = rest.get(f"/{rest.org}/{repo}", expect=200).json()["id"]

    made = rest.key(name="ci", repo_ids=[repo_id], expires_in_seconds=100, tags={"A": "b"})

    assert set(made) == {"id", "key", "name", "scopes", "repo_ids", "tags", "created_at"}
    assert made["scopes"] == ["read", "write"]
    assert made["key"].startswith("mesa_live_")
    listing = rest.get(f"/{rest.org}/api-keys?repo_id={repo_id}", expect=200)
    assert made["key"].encode() not in listing.body
    (listed,) = listing.json()["api_keys"]
    assert set(listed) == {
        "id",
        "name",
        "scopes",
        "repo_ids",
        "metadata",
        "tags",
        "last_used_at",
        "expires_at",
        "revoked_at",
        "created_at",
    }
    assert (listed["id"], listed["name"], listed["tags"]) == (made["id"], "ci", {"a": "b"})
    assert listed["last_used_at"] is None
    assert MOMENT.fullmatch(listed["expires_at"])


def test_keys_are_listed_by_status_scope_and_name(rest: Rest, repo: str) -> None:
    kept = rest.key(name=f"Kept-{repo}", scopes=["read"])
    gone = rest.key(name=f"gone-{repo}", scopes=["admin"])
    rest.delete(f"/{rest.org}/api-keys/{gone['id']}", expect=200)
    rest.delete(f"/{rest.org}/api-keys/{gone['id']}", expect=200)

    def listed(query: str) -> list[str]:
        page = rest.get(f"/{rest.org}/api-keys?query={repo}&{query}", expect=200).json()
        return [key["id"] for key in page["api_keys"]]

    assert listed("status=all") == [kept["id"], gone["id"]]
    assert listed("status=active") == [kept["id"]]
    assert listed("status=revoked") == [gone["id"]]
    assert listed("status=expired") == []
    assert listed("scope=admin") == [gone["id"]]
    assert listed("scope=read") == [kept["id"]]
    assert rest.get(f"/{rest.org}/api-keys?query=%25&limit=1", expect=200).json()["api_keys"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"scopes": ["root"]},
        {"scopes": "read"},
        {"repo_ids": []},
        {"repo_ids": ["01NOSUCH"]},
        {"expires_in_seconds": 99},
        {"expires_in_seconds": 31_536_001},
        {"expires_in_seconds": True},
        {"tags": {"": "x"}},
        {"tags": {"k" * 65: "x"}},
        {"tags": {"k": "x" * 257}},
        {"name": ""},
    ],
)
def test_a_key_out_of_bounds_is_refused(rest: Rest, body: dict[str, Any]) -> None:
    assert rest.post(f"/{rest.org}/api-keys", body).status == 400


def test_tags_of_a_key_are_edited(rest: Rest) -> None:
    made = rest.key(tags={"a": "1", "b": "2"})

    answer = rest.patch(f"/{rest.org}/api-keys/{made['id']}", {"tags": {"a": None, "c": "3"}})

    assert (answer.status, answer.json()) == (200, {"tags": {"b": "2", "c": "3"}})


@pytest.mark.parametrize("key", ["key_nope", "no", "%2e%2e"])
def test_an_unknown_key_is_404(rest: Rest, key: str) -> None:
    assert rest.delete(f"/{rest.org}/api-keys/{key}").status == 404


@pytest.mark.parametrize(
    "name",
    ["a b", "a..b", "/a", "a/", "a.lock", "a@{b", "-a", "HEAD", "@", "a//b", ".a", "x" * 251],
)
def test_a_bookmark_is_named_as_a_branch(rest: Rest, repo: str, name: str) -> None:
    answer = rest.post(f"/{rest.org}/{repo}/bookmarks", {"name": name, "change_id": ROOT})

    assert answer.status == 400


def test_a_bookmark_that_git_could_not_keep_beside_another_is_refused(
    rest: Rest, repo: str
) -> None:
    path = f"/{rest.org}/{repo}/bookmarks"
    rest.post(path, {"name": "a/b", "change_id": ROOT}, expect=201)

    for name in ("a/b", "a", "a/b/c", "main/x"):
        assert rest.post(path, {"name": name, "change_id": ROOT}).status == 409


@pytest.mark.parametrize("change", ["z" * 31, "z" * 33, "Z" * 32, "a" * 32, "1" * 32])
def test_a_change_id_has_one_form(rest: Rest, repo: str, change: str) -> None:
    path = f"/{rest.org}/{repo}"

    assert rest.post(f"{path}/bookmarks", {"name": "b", "change_id": change}).status == 400
    assert rest.get(f"{path}/changes/{change}").status == 400
    assert rest.get(f"{path}/content?change_id={change}").status == 400


def test_a_change_of_another_repository_is_not_found(rest: Rest, repo: str) -> None:
    rest.post(f"/{rest.org}/repos", {"name": f"{repo}-b"}, expect=201)
    change = rest.change(repo, {"a": b"x"})["id"]
    other = f"/{rest.org}/{repo}-b"

    assert rest.post(f"{other}/bookmarks", {"name": "b", "change_id": change}).status == 404
    assert rest.get(f"{other}/changes/{change}").status == 404
    assert rest.get(f"{other}/content?change_id={change}").status == 404
    assert rest.post(f"{other}/changes", {"base_change_id": change}).status == 404
    assert rest.get(f"{other}/diff?base_change_id={ROOT}&head_change_id={change}").status == 404


def test_the_first_change_takes_the_default_bookmark_along(rest: Rest, repo: str) -> None:
    first = rest.change(repo, {"a.txt": b"one\n"})

    assert CHANGE_ID.fullmatch(first["id"])
    assert first["parents"] == [ROOT]
    assert rest.get(f"/{rest.org}/{repo}", expect=200).json()["head_change_id"] == first["id"]
    second = rest.change(repo, {"b.txt": b"two\n"}, first["id"])
    assert rest.get(f"/{rest.org}/{repo}", expect=200).json()["head_change_id"] == first["id"]
    assert second["parents"] == [first["id"]]


def test_a_change_says_what_it_touches(rest: Rest, repo: str) -> None:
    first = rest.change(repo, {"d/a": b"1", "b": b"2"})
    body = {
        "base_change_id": first["id"],
        "message": "",
        "author": {**AUTHOR, "date": "2020-02-02T02:02:02+02:00"},
        "files": [upsert("d/a", b"3"), {"path": "b", "action": "delete"}, upsert("c", b"")],
    }
    made = rest.post(f"/{rest.org}/{repo}/changes", body, expect=201).json()

    shown = rest.get(f"/{rest.org}/{repo}/changes/{made['id']}", expect=200).json()

    assert shown == {**made, "files": ["b", "c", "d/a"], "conflicts": []}
    assert shown["author"] == {**AUTHOR, "date": "2020-02-02T02:02:02.000+02:00"}
    assert shown["message"] == ""


def test_files_need_an_author_and_a_message(rest: Rest, repo: str) -> None:
    path, files = f"/{rest.org}/{repo}/changes", [upsert("a", b"")]

    for more in ({}, {"message": "m"}, {"author": AUTHOR}):
        answer = rest.post(path, {"base_change_id": ROOT, "files": files, **more})
        assert answer.status == 400
        assert "author and message" in answer.message
    assert rest.post(path, {"base_change_id": ROOT, "files": []}).status == 400
    rest.post(path, {"base_change_id": ROOT}, expect=201)


@pytest.mark.parametrize(
    "files",
    [
        [upsert("a", b"1"), upsert("a", b"2")],
        [upsert("a", b"1"), {"path": "a", "action": "delete"}],
        [upsert("a", b"1"), upsert("a/b", b"2")],
        [{"path": "absent", "action": "delete"}],
        [{"path": "dir", "action": "delete"}],
        [upsert("dir", b"1")],
        [upsert("dir/f/g", b"1")],
        [upsert("a", b"1", mode="100777")],
        [upsert("a", b"1", mode="120000")],
        [upsert("a", b"1", action="rename")],
        [upsert("a", b"1", encoding="utf-8")],
        [{"path": "a"}],
        ["a"],
        [{"path": 1, "content": ""}],
    ],
)
def test_file_operations_that_contradict_themselves_change_nothing(
    rest: Rest, repo: str, files: list[Any]
) -> None:
    base = rest.change(repo, {"dir/f": b"x"})
    body = {"base_change_id": base["id"], "message": "m", "author": AUTHOR, "files": files}

    answer = rest.post(f"/{rest.org}/{repo}/changes", body)

    assert answer.status == 400
    patched = rest.patch(f"/{rest.org}/{repo}/changes/{base['id']}", {"files": files})
    assert patched.status == 400
    now = rest.get(f"/{rest.org}/{repo}/changes/{base['id']}", expect=200).json()
    assert now["current_commit_oid"] == base["current_commit_oid"]


def test_a_patch_keeps_the_id_and_gives_another_commit(rest: Rest, repo: str) -> None:
    made = rest.change(repo, {"a": b"1"})
    path = f"/{rest.org}/{repo}/changes/{made['id']}"

    patched = rest.patch(
        path, {"files": [upsert("a", b"2")], "base_commit_oid": made["current_commit_oid"]}
    ).json()

    assert patched["id"] == made["id"]
    assert patched["current_commit_oid"] != made["current_commit_oid"]
    assert (patched["message"], patched["author"]) == ("edit", made["author"])
    assert rest.patch(path, {"message": ""}, expect=200).json()["message"] == ""
    stale = rest.patch(path, {"message": "x", "base_commit_oid": made["current_commit_oid"]})
    never = rest.patch(path, {"message": "x", "base_commit_oid": "0" * 40})
    assert (stale.status, stale.code) == (409, "STALE_BASE")
    assert (never.status, never.body) == (stale.status, stale.body)


def test_a_change_with_descendants_is_not_rewritten_here(rest: Rest, repo: str) -> None:
    first = rest.change(repo, {"a": b"1"})
    rest.change(repo, {"a": b"2"}, first["id"])

    answer = rest.patch(f"/{rest.org}/{repo}/changes/{first['id']}", {"message": "x"})

    assert (answer.status, answer.code) == (400, "NOT_IMPLEMENTED")


def test_the_root_is_not_edited(rest: Rest, repo: str) -> None:
    assert rest.patch(f"/{rest.org}/{repo}/changes/{ROOT}", {"message": "x"}).status == 400


def test_files_and_resolutions_exclude_each_other(rest: Rest, repo: str) -> None:
    made = rest.change(repo, {"a": b"1"})
    path = f"/{rest.org}/{repo}/changes/{made['id']}"

    both = rest.patch(path, {"files": [upsert("a", b"")], "resolutions": []})
    alone = rest.patch(path, {"resolutions": [{"path": "a", "take": "source"}]})

    assert (both.status, both.code) == (400, "INVALID_REQUEST")
    assert (alone.status, alone.code) == (400, "NOT_IMPLEMENTED")


@pytest.fixture
def tree(rest: Rest, repo: str) -> str:
    """The content of a repository with a few files."""
    body = {
        "base_change_id": ROOT,
        "message": "tree",
        "author": AUTHOR,
        "files": [
            upsert("README.md", b"# hello\n"),
            upsert("bin/run", b"#!/bin/sh\n", mode="100755"),
            upsert("src/deep/er/x.bin", bytes(range(256))),
        ],
    }
    rest.post(f"/{rest.org}/{repo}/changes", body, expect=201)
    return f"/{rest.org}/{repo}/content"


def test_a_file_is_answered_with_its_content(rest: Rest, tree: str) -> None:
    found = rest.get(f"{tree}?path=bin/run", expect=200).json()

    assert found == {
        "type": "file",
        "name": "run",
        "path": "bin/run",
        "sha": "1a2485251c33a70432394c93fb89330ef214bfc9",
        "size": 10,
        "encoding": "base64",
        "content": base64.b64encode(b"#!/bin/sh\n").decode(),
        "mode": "100755",
    }


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("", ["README.md", "bin", "src"]),
        ("?depth=0", []),
        ("?depth=1", ["README.md", "bin", "src"]),
        ("?depth=2", ["README.md", "bin", "bin/run", "src", "src/deep"]),
        ("?path=src&depth=10", ["src/deep", "src/deep/er", "src/deep/er/x.bin"]),
        (f"?change_id={ROOT}", []),
    ],
)
def test_a_directory_lists_down_to_its_depth(
    rest: Rest, tree: str, query: str, paths: list[str]
) -> None:
    found = rest.get(tree + query, expect=200).json()

    assert found["type"] == "dir"
    assert [entry["path"] for entry in found["entries"]] == paths
    assert all("size" in entry for entry in found["entries"] if entry["type"] == "file")


def test_raw_bytes_come_as_an_attachment_that_nothing_runs(rest: Rest, tree: str) -> None:
    answer = rest.get(
        f"{tree}?path=src/deep/er/x.bin", expect=200, Accept="application/octet-stream"
    )

    assert answer.body == bytes(range(256))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/octet-stream, application/json;q=0.5", "application/octet-stream"),
        ("application/octet-stream;q=0.2, application/json;q=0.5", "application/json"),
    ],
)
def test_the_form_is_negotiated(rest: Rest, tree: str, accept: str, content_type: str) -> None:
    answer = rest.get(f"{tree}?path=README.md", expect=200, Accept=accept)

    assert answer.headers["content-type"] == content_type


def test_what_cannot_be_given_in_a_form_is_406(rest: Rest, tree: str) -> None:
    answers = [
        rest.get(tree, Accept="application/octet-stream"),
        rest.get(f"{tree}?path=README.md", Accept="text/html"),
        rest.get(f"{tree}?path=README.md", Accept="application/json;q=0"),
    ]

    assert {(answer.status, answer.code) for answer in answers} == {(406, "NOT_ACCEPTABLE")}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?path=nope", 404),
        ("?path=README.md/x", 404),
        ("?path=bin/", 400),
        ("?path=/bin", 400),
        ("?path=bin/../src", 400),
        ("?path=.git/config", 400),
        ("?path=a%00b", 400),
        ("?depth=11", 400),
        ("?depth=-1", 400),
        (f"?change_id={'k' * 32}", 404),
        ("?lang=en", 400),
    ],
)
def test_content_that_is_not_there_or_not_asked_for_rightly(
    rest: Rest, tree: str, query: str, status: int
) -> None:
    assert rest.get(tree + query).status == status


def test_a_diff_shows_lines(rest: Rest, repo: str) -> None:
    first = rest.change(repo, {"a": b"1\n2\n3\n", "gone": b"x\n", "old name": b"same\n" * 5})
    body = {
        "base_change_id": first["id"],
        "message": "m",
        "author": AUTHOR,
        "files": [
            upsert("a", b"1\ntwo\n3\n"),
            {"path": "gone", "action": "delete"},
            {"path": "old name", "action": "delete"},
            upsert("new name", b"same\n" * 5),
            upsert("bin", b"\0\1"),
        ],
    }
    second = rest.post(f"/{rest.org}/{repo}/changes", body, expect=201).json()

    found = rest.get(
        f"/{rest.org}/{repo}/diff?base_change_id={first['id']}&head_change_id={second['id']}",
        expect=200,
    ).json()

    by_path = {entry["path"]: entry for entry in found["entries"]}
    assert {path: entry["status"] for path, entry in by_path.items()} == {
        "a": "modified",
        "bin": "added",
        "gone": "deleted",
        "new name": "renamed",
    }
    assert by_path["new name"]["old_path"] == "old name"
    assert (by_path["bin"]["omitted_reason"], by_path["bin"]["hunks"]) == ("binary", None)
    (hunk,) = by_path["a"]["hunks"]
    assert hunk["lines"] == [
        {"kind": "context", "text": "1"},
        {"kind": "deleted", "text": "2"},
        {"kind": "added", "text": "two"},
        {"kind": "context", "text": "3"},
    ]
    assert found["stats"] == {
        "entries": 4,
        "additions": 1,
        "deletions": 2,
        "changes": 3,
        "conflicted_entries": 0,
        "conflicted_hunks": 0,
    }
    assert (found["truncated"], found["conflicted_entries"]) == (False, [])


def test_a_diff_needs_both_sides(rest: Rest, repo: str) -> None:
    path = f"/{rest.org}/{repo}/diff"

    assert rest.get(path).status == 400
    assert rest.get(f"{path}?base_change_id={ROOT}").status == 400
    assert rest.get(f"{path}?base_change_id={ROOT}&head_change_id={ROOT}").status == 200
    as_text = rest.get(f"{path}?base_change_id={ROOT}&head_change_id={ROOT}", Accept="text/plain")
    assert as_text.status == 406
