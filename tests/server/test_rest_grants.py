"""Every route declares who may call it, and holds to it before it reads anything else."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Iterator

import pytest

from mesafs.auth.api_keys import key_id_of, signing_secret
from mesafs.auth.tokens import sign
from mesafs.base.clock import SystemClock
from mesafs.base.files import Files
from mesafs.server import app
from mesafs.server.config import Settings
from mesafs.server.http.application import GRANT_STANDS_SECONDS
from mesafs.server.http.counters import Counters
from mesafs.server.http.routing import Access, Body, Route, Scheme
from mesafs.testing.server import RunningServer
from support.polling import poll
from support.rest import Rest

RANK = {Access.PUBLIC: 0, Access.ANY: 1, Access.READ: 1, Access.WRITE: 2, Access.ADMIN: 3}


def token(key: str, *, scopes: list[str], repos: list[str] | None = None, ttl: int = 900) -> str:
    key_id = key_id_of(key)
    assert key_id is not None
    return sign(
        key_id=key_id,
        signing_secret=signing_secret(key),
        scopes=scopes,
        repositories=repos,
        ttl_seconds=ttl,
        now_seconds=int(time.time()),
        jti=str(uuid.uuid4()),
    )


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Route]]:
    """The table of a server that is not running."""
    folder = tmp_path_factory.mktemp("table")
    with app.backing(Settings(data_dir=folder), SystemClock(), Files()) as opened:
        yield app.all_routes(opened, Counters())


@pytest.fixture(scope="module")
def keys(server: RunningServer) -> Iterator[dict[int, str]]:
    with Rest(server.api_url, server.org, server.admin_key) as rest:
        yield {
            1: rest.key(scopes=["read"])["key"],
            2: rest.key(scopes=["write"])["key"],
            3: rest.key(scopes=["admin"])["key"],
        }


def target(route: Route, org: str) -> str:
    filled = route.path.replace("{org}", org)
    return re.sub(r"\{\w+\}", "no-such-thing", filled)


def test_only_routes_that_name_nothing_are_public(routes: list[Route]) -> None:
    public = {route.path for route in routes if route.access is Access.PUBLIC}

    assert public == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/install.sh",
        "/install.json",
        "/client.tar.gz",
    }


def test_all_operations_of_the_contract_have_a_route(routes: list[Route]) -> None:
    operations = [route for route in routes if route.path.startswith("/v1/")]

    assert len({(route.method, route.path) for route in operations}) == 32
    assert len({route.operation for route in operations}) == 32


def test_without_a_credential_every_route_is_401_and_reads_no_body(
    routes: list[Route], server: RunningServer
) -> None:
    with Rest(server.url, server.org, None) as rest:
        for route in routes:
            if route.access is Access.PUBLIC:
                continue
            answer = rest.send(route.method, target(route, server.org), b"{not json")
            assert answer.status == 401, route
            assert answer.code == "UNAUTHENTICATED"
            assert answer.headers["www-authenticate"].startswith(route.scheme.value.title())


def test_an_unknown_path_is_401_without_a_credential_and_404_with_one(rest: Rest) -> None:
    with rest.as_(None) as nobody:
        assert nobody.get("/no/such/thing/at/all/here").code == "UNAUTHENTICATED"
    assert rest.get("/no/such/thing/at/all/here").code == "NOT_FOUND"


@pytest.mark.parametrize("held", [1, 2, 3])
@pytest.mark.parametrize("kind", ["key", "token", "wide token"])
def test_a_route_answers_403_exactly_when_its_scope_is_not_held(
    routes: list[Route], server: RunningServer, keys: dict[int, str], held: int, kind: str
) -> None:
    credential = keys[held]
    if kind == "token":
        names = ["read", "write", "admin"][:held]
        credential = token(keys[3], scopes=names)
    elif kind == "wide token":
        credential = token(keys[held], scopes=["admin"])

    with Rest(server.url, server.org, credential) as rest:
        for route in routes:
            if route.scheme is Scheme.BASIC or route.body is Body.STREAM:
                continue  # they have tests of their own
            if "events" in route.path:
                continue  # it does not end
            answer = rest.send(route.method, target(route, server.org))
            if RANK[route.access] > held:
                assert answer.status == 403, route
                assert answer.code == "PERMISSION_DENIED"
            elif route.operation not in {"createApiKey", "revokeApiKey", "updateApiKey"}:
                assert answer.status != 403, route
            assert answer.status < 500, (route, answer.body)


def test_another_organisation_looks_like_a_missing_one(rest: Rest, repo: str) -> None:
    answers = [
        rest.get(f"/{org}/{tail}")
        for org in ("other", "my-orG")
        for tail in ("repos", repo, f"{repo}/changes", "api-keys")
    ]

    assert {(answer.status, answer.body) for answer in answers} == {
        (404, answers[0].body),
    }


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  {key}",
        "Basic {key}",
        "Token {key}",
        "{key}",
        "Bearer {key}, Bearer {key}",
        "Bearer {secret}",
    ],
)
def test_a_malformed_authorization_is_401(rest: Rest, server: RunningServer, value: str) -> None:
    presented = value.format(key=server.admin_key, secret=signing_secret(server.admin_key))

    with rest.as_(None) as nobody:
        answer = nobody.get("/whoami", Authorization=presented)

    assert (answer.status, answer.code) == (401, "UNAUTHENTICATED")


def test_the_scheme_is_read_in_any_case(rest: Rest, server: RunningServer) -> None:
    with rest.as_(None) as nobody:
        nobody.get("/whoami", expect=200, Authorization=f"bEARER {server.admin_key}")


def test_a_credential_elsewhere_is_not_looked_at(rest: Rest, server: RunningServer) -> None:
    with rest.as_(None) as nobody:
        nobody.get(f"/whoami?api_key={server.admin_key}", expect=401)
        nobody.get("/whoami", expect=401, Cookie=f"api_key={server.admin_key}")


def test_revoking_a_key_ends_it_and_its_tokens_at_once(rest: Rest) -> None:
    made = rest.key(scopes=["read"])
    signed = token(made["key"], scopes=["read"])
    with rest.as_(made["key"]) as holder, rest.as_(signed) as bearer:
        holder.get("/whoami", expect=200)
        bearer.get("/whoami", expect=200)

        rest.delete(f"/{rest.org}/api-keys/{made['id']}", expect=200)

        holder.get("/whoami", expect=401)
        bearer.get("/whoami", expect=401)


def test_a_key_that_is_revoked_while_a_body_arrives_stores_nothing(
    rest: Rest, server: RunningServer
) -> None:
    made = rest.key(scopes=["write"])
    body = b'{"name":"too-late"}'
    head = (
        f"POST /v1/{rest.org}/repos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made['key']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 100")  # it has been admitted
        rest.delete(f"/{rest.org}/api-keys/{made['id']}", expect=200)
        late = time.monotonic() + GRANT_STANDS_SECONDS
        poll(lambda: time.monotonic() > late, what="the grant is looked at again")
        connection.sendall(body)
        assert connection.recv(1024).startswith(b"HTTP/1.1 401")

    rest.get(f"/{rest.org}/too-late", expect=404)


def test_a_token_sees_only_the_repositories_it_names(rest: Rest, repo: str) -> None:
    other = f"{repo}-other"
    rest.post(f"/{rest.org}/repos", {"name": other}, expect=201)
    admin = rest.credential or ""

    with rest.as_(token(admin, scopes=["read"], repos=[f"{rest.org}/{repo}"])) as bearer:
        listed = bearer.get(f"/{rest.org}/repos", expect=200).json()["repos"]
        assert [each["name"] for each in listed] == [repo]
        assert bearer.get(f"/{rest.org}", expect=200).json()["num_repos"] == 1
        bearer.get(f"/{rest.org}/{repo}", expect=200)
        unseen = bearer.get(f"/{rest.org}/{other}")
        missing = bearer.get(f"/{rest.org}/no-such-repo")
        assert (unseen.status, unseen.body) == (missing.status, missing.body)

    for nothing in ([], ["*"], [f"{rest.org}/*"], [repo], [f"other/{repo}"]):
        with rest.as_(token(admin, scopes=["read"], repos=nothing)) as bearer:
            assert bearer.get(f"/{rest.org}/repos", expect=200).json()["repos"] == []
            bearer.get(f"/{rest.org}/{repo}", expect=404)


def test_a_token_does_not_reach_a_repository_that_took_a_name_over(rest: Rest, repo: str) -> None:
    admin = rest.credential or ""
    earlier = token(admin, scopes=["read"], repos=[f"{rest.org}/{repo}"])
    rest.patch(f"/{rest.org}/{repo}", {"name": f"{repo}-renamed"}, expect=200)
    rest.post(f"/{rest.org}/repos", {"name": repo}, expect=201)

    with rest.as_(earlier) as bearer:
        bearer.get(f"/{rest.org}/{repo}", expect=404)
        bearer.get(f"/{rest.org}/{repo}-renamed", expect=404)


def test_a_token_for_a_repository_that_comes_later_reaches_it(rest: Rest, repo: str) -> None:
    name = f"{repo}-later"
    signed = token(rest.credential or "", scopes=["read"], repos=[f"{rest.org}/{name}"])
    rest.post(f"/{rest.org}/repos", {"name": name}, expect=201)

    with rest.as_(signed) as bearer:
        bearer.get(f"/{rest.org}/{name}", expect=200)


def test_a_token_manages_no_keys(rest: Rest) -> None:
    made = rest.key(scopes=["admin"])

    with rest.as_(token(made["key"], scopes=["admin"])) as bearer:
        assert bearer.post(f"/{rest.org}/api-keys", {}).status == 403
        assert bearer.delete(f"/{rest.org}/api-keys/{made['id']}").status == 403


def test_a_restricted_credential_makes_and_deletes_no_repository(rest: Rest, repo: str) -> None:
    with rest.as_(
        token(rest.credential or "", scopes=["write"], repos=[f"{rest.org}/{repo}"])
    ) as it:
        assert it.post(f"/{rest.org}/repos", {}).status == 403
        assert it.delete(f"/{rest.org}/{repo}").status == 403
        assert it.patch(f"/{rest.org}/{repo}", {"tags": {"a": "b"}}).status == 200


def test_what_is_not_implemented_says_so_to_those_who_may_call_it(
    rest: Rest, routes: list[Route]
) -> None:
    missing = [route for route in routes if route.endpoint.__module__.endswith("not_implemented")]

    assert len(missing) == 12
    for route in missing:
        answer = rest.send(route.method, target(route, rest.org), b"{}")
        assert (answer.status, answer.code) == (400, "NOT_IMPLEMENTED"), route
