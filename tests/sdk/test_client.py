"""Both clients against exact bytes: one surface, one behaviour, two ways to carry it."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

import mesafs
import mesafs.sync
from mesafs.auth.api_keys import generate, signing_secret
from mesafs.auth.tokens import KeyFacts, verify
from mesafs.base.errors import Conflict, Unavailable
from mesafs.sdk.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    InvalidOptionsError,
    MissingCredentialError,
    NotFoundError,
    RateLimitError,
    ServerError,
    UnexpectedAnswer,
    ValidationError,
)
from mesafs.wire.repositories import Repo
from support.scripted_server import ScriptedServer, Starter, answer

NOW = 1_767_225_600
REPO = {
    "id": "01K",
    "org": "acme",
    "name": "app",
    "default_bookmark": "main",
    "head_change_id": "z" * 32,
    "upstream": None,
    "created_at": "2026-01-01T00:00:00.000+00:00",
    "tags": {},
}
WHOAMI = {
    "org": {"id": "o", "slug": "acme", "name": "Acme"},
    "key_id": "key_foreign",
    "key_name": None,
    "scopes": ["read"],
}


class StoppedClock:
    def now_ns(self) -> int:
        return NOW * 1_000_000_000

    def monotonic(self) -> float:
        return 0.0

    def wait(self, event: Any, seconds: float) -> bool:
        return False


def json_answer(value: Any, **more: str) -> bytes:
    return answer(json.dumps(value).encode(), **more)


Use = Callable[[Any], Any]
Run = Callable[..., Any]


@pytest.fixture(params=["async", "blocking"])
def run(request: pytest.FixtureRequest, scripted: Starter) -> Run:
    """Use a client against scripted answers; awaits what the async one gives."""

    def go(answers: list[bytes], use: Use, **options: Any) -> tuple[Any, ScriptedServer]:
        server = scripted([answers] * 3)
        options = {
            "api_url": server.url,
            "api_key": "mesa_foreign",
            "org": "acme",
            "clock": StoppedClock(),
            **options,
        }
        if request.param == "blocking":
            with mesafs.sync.Mesa(**options) as mesa:
                return use(mesa), server

        async def work() -> Any:
            async with mesafs.Mesa(**options) as mesa:
                result: Coroutine[Any, Any, Any] = use(mesa)
                return await result

        return asyncio.run(work()), server

    return go


def test_a_result_is_typed(run: Run) -> None:
    repo, server = run(
        [json_answer(REPO, status="201 Created")], lambda m: m.repos.create(name="app")
    )

    assert isinstance(repo, Repo)
    assert repo.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert server.requests[0].startswith(b"POST /v1/acme/repos HTTP/1.1\r\n")
    assert server.requests[0].endswith(b'\r\n\r\n{"name":"app"}')


def test_every_path_segment_is_encoded_once(run: Run) -> None:
    _, server = run(
        [json_answer({"name": "feat/x y", "change_id": "z" * 32, "is_default": False})],
        lambda m: m.bookmarks.get(repo="..", bookmark="feat/x y"),
    )

    assert server.requests[0].startswith(b"GET /v1/acme/%2E%2E/bookmarks/feat%2Fx%20y ")


def test_the_organisation_is_asked_for_once(run: Run) -> None:
    def use(mesa: Any) -> Any:
        first = mesa.resolve_org()
        if not inspect.isawaitable(first):
            return first, mesa.resolve_org(), mesa.resolve_org("other")

        async def both() -> Any:
            return await first, await mesa.resolve_org(), await mesa.resolve_org("other")

        return both()

    orgs, server = run([json_answer(WHOAMI)] * 2, use, org=None)

    assert orgs == ("acme", "acme", "other")
    assert len(server.requests) == 1


def test_a_token_is_signed_without_the_network(run: Run) -> None:
    key = generate(NOW * 1_000_000_000, lambda size: b"\1" * size)

    result, server = run(
        [],
        lambda m: m.tokens.create(scopes=["read"], repos=["acme/app"], ttl_seconds=60),
        api_key=key.text,
    )

    facts = KeyFacts(key.id, signing_secret(key.text))
    claims = verify(result.token, {key.id: facts}.get, NOW)
    assert claims.repositories == ("acme/app",)
    assert result.expires_at == datetime.fromtimestamp(NOW + 60, UTC)
    assert (result.scopes, result.repos) == (["read"], ["acme/app"])
    assert server.connections == 0
    assert result.token not in repr(result)


def test_a_key_of_another_server_is_asked_for_its_id(run: Run) -> None:
    result, _ = run([json_answer(WHOAMI)], lambda m: m.tokens.create())

    facts = KeyFacts("key_foreign", signing_secret("mesa_foreign"))  # type: ignore[arg-type]
    claims = verify(result.token, {"key_foreign": facts}.get, NOW)  # type: ignore[arg-type]
    assert claims.expires_at_seconds == NOW + 3600


def test_h_auth_20_a_token_signs_nothing(run: Run) -> None:
    with pytest.raises(InvalidOptionsError, match="cannot sign"):
        run([], lambda m: m.tokens.create(), api_key="a.b.c")


@pytest.mark.parametrize("ttl", [0, 86_401])
def test_a_lifetime_out_of_range_is_refused_here(run: Run, ttl: int) -> None:
    key = generate(0, lambda size: b"\1" * size)

    with pytest.raises(InvalidOptionsError, match="between 1 and 86400"):
        run([], lambda m: m.tokens.create(ttl_seconds=ttl), api_key=key.text)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", ValidationError),
        ("401 Unauthorized", AuthenticationError),
        ("403 Forbidden", AuthorizationError),
        ("404 Not Found", NotFoundError),
        ("406 Not Acceptable", ValidationError),
        ("409 Conflict", ConflictError),
        ("429 Too Many Requests", RateLimitError),
        ("500 Internal Server Error", ServerError),
    ],
)
def test_an_error_has_the_published_name_and_facts(run: Run, status: str, kind: Any) -> None:
    body = {"error": {"code": "WORD", "message": "said", "details": {"hint": "do this"}}}

    with pytest.raises(kind, match="said") as caught:
        run([json_answer(body, status=status)], lambda m: m.repos.get(repo="app"))

    error: Any = caught.value
    assert error.status_code == int(status[:3])
    assert error.code == f"API_ERROR_{status[:3]}"
    assert error.body.error.code == error.server_code == "WORD"
    assert error.hint == "do this"


def test_errors_are_also_of_the_kinds_that_every_layer_knows() -> None:
    assert ConflictError.kind is Conflict.kind
    assert issubclass(ServerError, Unavailable)
    assert ServerError.kind is Unavailable.kind


def test_a_redirect_is_not_followed(run: Run) -> None:
    elsewhere = answer(b"", status="302 Found", headers="Location: http://127.0.0.1:9/\r\n")

    with pytest.raises(UnexpectedAnswer, match="redirect to"):
        run([elsewhere], lambda m: m.repos.get(repo="app"))


def test_what_may_be_repeated_is_when_the_server_hangs_up(scripted: Starter) -> None:
    server = scripted([[b""], [json_answer(REPO)]])

    with mesafs.sync.Mesa(api_url=server.url, api_key="mesa_x", org="acme") as mesa:
        assert mesa.repos.get(repo="app").name == "app"

    assert len(server.requests) == 2


def test_a_write_is_sent_once_even_when_the_server_hangs_up(scripted: Starter) -> None:
    server = scripted([[b""], [json_answer(REPO)]])

    with (
        mesafs.sync.Mesa(api_url=server.url, api_key="mesa_x", org="acme") as mesa,
        pytest.raises(Unavailable, match="cannot be reached"),
    ):
        mesa.repos.create(name="app")

    assert len(server.requests) == 1


def test_a_connection_is_used_again_and_a_closed_one_is_not(scripted: Starter) -> None:
    closing = answer(json.dumps(REPO).encode(), headers="Connection: close\r\n")
    server = scripted([[json_answer(REPO), json_answer(REPO), closing], [json_answer(REPO)]])

    with mesafs.sync.Mesa(api_url=server.url, api_key="mesa_x", org="acme") as mesa:
        for _ in range(4):
            mesa.repos.get(repo="app")

    assert server.connections == 2


def test_nobody_listening_is_said(run: Run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

        with pytest.raises(Unavailable, match="cannot be reached"):
            run([], lambda m: m.whoami(), api_url=url)


def test_without_a_credential_the_remedy_is_named() -> None:
    for client in (mesafs.Mesa, mesafs.sync.Mesa):
        with pytest.raises(MissingCredentialError) as caught:
            client()
        assert caught.value.hint is not None
        assert "MESA_API_KEY" in caught.value.hint


def test_the_blocking_client_has_every_method_of_the_async_one() -> None:
    one = mesafs.Mesa(api_key="mesa_x", org="acme")
    with mesafs.sync.Mesa(api_key="mesa_x", org="acme") as other:
        for name, namespace in vars(one).items():
            if name.startswith("_") or isinstance(namespace, str):
                continue
            for method in dir(namespace):
                if not method.startswith("_"):
                    assert callable(getattr(getattr(other, name), method)), f"{name}.{method}"


def test_importing_the_package_or_the_blocking_client_imports_no_third_party_package() -> None:
    program = (
        "import sys; before = set(sys.modules); import mesafs, mesafs.sync, mesafs.sdk.sync_api;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before}"
        " - sys.stdlib_module_names - {'mesafs'})"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == ""


def test_every_public_name_can_be_had() -> None:
    for name in mesafs.__all__:
        assert getattr(mesafs, name) is not None
    with pytest.raises(AttributeError):
        _ = mesafs.nothing  # type: ignore[attr-defined]


def test_threads_share_a_client_and_never_a_connection_in_use(scripted: Starter) -> None:
    server = scripted([[json_answer({**REPO, "name": f"r{n}"})] for n in range(8)])
    with (
        mesafs.sync.Mesa(api_url=server.url, api_key="mesa_x", org="acme") as mesa,
        ThreadPoolExecutor(8) as pool,
    ):
        names = list(pool.map(lambda _: mesa.repos.get(repo="app").name, range(8)))

    assert sorted(names) == [f"r{n}" for n in range(8)]
