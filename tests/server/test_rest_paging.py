"""Pages: every row once, and a cursor of no use anywhere else."""

from __future__ import annotations

import pytest

from support.rest import ROOT, Rest


@pytest.fixture
def bookmarks(rest: Rest, repo: str) -> str:
    """The listing of a repository's bookmarks: main and nine more."""
    path = f"/{rest.org}/{repo}/bookmarks"
    for number in range(9):
        rest.post(path, {"name": f"b{number}", "change_id": ROOT}, expect=201)
    return path


def walk(rest: Rest, path: str, member: str, limit: int) -> list[str]:
    names: list[str] = []
    cursor = ""
    while True:
        page = rest.get(f"{path}?limit={limit}{cursor}", expect=200).json()
        assert len(page[member]) <= limit
        names += [row.get("name") or row["id"] for row in page[member]]
        assert page["has_more"] is (page["next_cursor"] is not None)
        if not page["has_more"]:
            return names
        cursor = f"&cursor={page['next_cursor']}"


@pytest.mark.parametrize("limit", [1, 3, 5, 10, 100])
def test_pages_have_every_row_once(rest: Rest, bookmarks: str, limit: int) -> None:
    names = walk(rest, bookmarks, "bookmarks", limit)

    assert names == [f"b{number}" for number in range(9)] + ["main"]


def test_changes_come_newest_first_each_once(rest: Rest, repo: str) -> None:
    base, made = ROOT, []
    for number in range(7):
        base = rest.change(repo, {f"f{number}": b"x"}, base)["id"]
        made.append(base)
    rest.post(f"/{rest.org}/{repo}/bookmarks", {"name": "top", "change_id": base}, expect=201)

    page = rest.get(f"/{rest.org}/{repo}/changes?bookmark=top&limit=3", expect=200).json()
    listed = [row["id"] for row in page["changes"]]
    while page["has_more"]:
        path = f"/{rest.org}/{repo}/changes?bookmark=top&limit=3&cursor={page['next_cursor']}"
        page = rest.get(path, expect=200).json()
        listed += [row["id"] for row in page["changes"]]

    assert listed == made[::-1]


def test_a_page_goes_on_where_the_last_one_ended_whatever_came_between(
    rest: Rest, bookmarks: str
) -> None:
    first = rest.get(f"{bookmarks}?limit=4", expect=200).json()
    for name in ("a-before", "b35-after"):
        rest.post(bookmarks, {"name": name, "change_id": ROOT}, expect=201)

    second = rest.get(f"{bookmarks}?limit=100&cursor={first['next_cursor']}", expect=200).json()

    assert [row["name"] for row in second["bookmarks"]] == [
        "b35-after",
        *(f"b{number}" for number in range(4, 9)),
        "main",
    ]


def test_a_cursor_is_of_no_use_elsewhere(rest: Rest, bookmarks: str) -> None:
    cursor = rest.get(f"{bookmarks}?limit=2", expect=200).json()["next_cursor"]
    other = rest.key(scopes=["read"])["key"]
    rest.post(f"/{rest.org}/repos", {"name": f"cursor-{cursor[:8].strip('-_')}"}, expect=201)

    refused = [
        rest.get(f"/{rest.org}/repos?cursor={cursor}"),
        rest.get(f"/{rest.org}/api-keys?cursor={cursor}"),
        rest.get(f"{bookmarks}?cursor={cursor}&glob=b*"),
        rest.get(f"{bookmarks.replace('/bookmarks', '/changes')}?cursor={cursor}"),
        rest.get(f"{bookmarks}?cursor={cursor[:-1]}"),
        rest.get(f"{bookmarks}?cursor={flipped(cursor)}"),
        rest.get(f"{bookmarks}?cursor="),
        rest.get(f"{bookmarks}?cursor=eyJhIjoxfQ"),
        rest.get(f"{bookmarks}?cursor=1%27%20OR%201=1--"),
        rest.get(f"{bookmarks}?cursor={'A' * 20_000}"),
    ]
    with rest.as_(other) as reader:
        refused.append(reader.get(f"{bookmarks}?cursor={cursor}"))

    assert {answer.status for answer in refused} == {400}
    assert rest.get(f"{bookmarks}?cursor={cursor}", expect=200).json()["bookmarks"]


def flipped(cursor: str) -> str:
    return ("B" if cursor[0] != "B" else "C") + cursor[1:]


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("b?", [f"b{number}" for number in range(9)]),
        ("*", [f"b{number}" for number in range(9)] + ["main"]),
        ("m*n", ["main"]),
        ("*8", ["b8"]),
        ("b", []),
        ("[b]1", []),
        ("*a*i*", ["main"]),
        ("main*main", []),
    ],
)
def test_a_glob_knows_stars_and_question_marks(
    rest: Rest, bookmarks: str, glob: str, names: list[str]
) -> None:
    quoted = glob.replace("?", "%3F").replace("[", "%5B").replace("]", "%5D")
    page = rest.get(f"{bookmarks}?glob={quoted}", expect=200).json()

    assert [row["name"] for row in page["bookmarks"]] == names


def test_a_glob_of_a_hundred_stars_takes_linear_time(rest: Rest, repo: str) -> None:
    path = f"/{rest.org}/{repo}/bookmarks"
    rest.post(path, {"name": "a" * 240, "change_id": ROOT}, expect=201)

    assert rest.get(f"{path}?glob={'*a' * 100}b", expect=200).json()["bookmarks"] == []
