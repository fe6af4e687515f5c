"""The path of a request is split before it is decoded, and decoded once."""

from __future__ import annotations

import pytest

from support.rest import ROOT, Rest


@pytest.fixture
def at(rest: Rest, repo: str) -> str:
    """The path of a repository with bookmarks whose names need care."""
    path = f"/{rest.org}/{repo}"
    for name in ("feat/x", "feat/y%z", "merge", "tägs"):
        rest.post(f"{path}/bookmarks", {"name": name, "change_id": ROOT}, expect=201)
    return path


@pytest.mark.parametrize(
    ("segment", "name"),
    [
        ("feat%2Fx", "feat/x"),
        ("feat%2fx", "feat/x"),
        ("%66eat%2Fx", "feat/x"),
        ("feat%2Fy%25z", "feat/y%z"),
        ("merge", "merge"),
        ("t%C3%A4gs", "tägs"),
    ],
)
def test_a_bookmark_is_one_segment(rest: Rest, at: str, segment: str, name: str) -> None:
    assert rest.get(f"{at}/bookmarks/{segment}", expect=200).json()["name"] == name


@pytest.mark.parametrize(
    "tail",
    [
        "/bookmarks/feat/x",
        "/bookmarks/feat%252Fx",
        "/bookmarks/",
        "//bookmarks",
        "/bookmarks;x=1",
        "/BOOKMARKS",
        "/bookmarks/..%2f..%2fapi-keys",
        "/bookmarks/%2e%2e%2fapi-keys",
        "/../../whoami",
        "/./bookmarks",
    ],
)
def test_another_spelling_is_another_thing(rest: Rest, at: str, tail: str) -> None:
    answer = rest.get(at + tail)

    assert (answer.status, answer.code) == (404, "NOT_FOUND")


@pytest.mark.parametrize("tail", ["/%", "/%G1", "/%ff", "/a%00b", "/%2"])
def test_a_path_that_cannot_be_decoded_is_400_after_the_credential(
    rest: Rest, at: str, tail: str
) -> None:
    assert rest.get(at + tail).status == 400
    with rest.as_(None) as nobody:
        assert nobody.get(at + tail).status == 401


@pytest.mark.parametrize("target", ["/V1/whoami", "/v1/../v1/whoami", "/v1//whoami", "/v1/whoami/"])
def test_a_path_is_not_normalised(rest: Rest, target: str) -> None:
    assert rest.send("GET", target).status == 404


def test_an_absolute_target_skips_no_check(rest: Rest) -> None:
    with rest.as_(None) as nobody:
        assert nobody.send("GET", "http://evil.example/v1/whoami").status == 401
    assert rest.send("GET", "http://evil.example/v1/whoami").status in {400, 404}


@pytest.mark.parametrize("method", ["PUT", "HEAD", "OPTIONS", "TRACE", "BREW"])
def test_another_method_is_no_operation(rest: Rest, method: str) -> None:
    answer = rest.send(method, "/v1/whoami")

    assert answer.status == 404


def test_a_method_cannot_be_tunnelled(rest: Rest, repo: str) -> None:
    answer = rest.call(
        "POST", f"/{rest.org}/{repo}", {}, headers={"X-HTTP-Method-Override": "DELETE"}
    )

    assert answer.status == 404
    rest.get(f"/{rest.org}/{repo}", expect=200)


@pytest.mark.parametrize("foreign", ["a\tb", "x" * 129, "a b", "é"])
def test_a_strange_request_id_is_replaced(rest: Rest, foreign: str) -> None:
    answer = rest.get("/whoami", **{"X-Request-Id": foreign})

    assert answer.headers["x-request-id"] != foreign
    assert len(answer.headers["x-request-id"]) <= 128
