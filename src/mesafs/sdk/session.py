"""What all namespaces of a client share: who it is, which organisation, how requests travel.

Everything is written once, as coroutines. The blocking client gives a driver whose ``run`` never
waits on a loop, so that such a coroutine runs to its end in one step (:func:`run_now`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from mesafs.auth.api_keys import key_id_of, signing_secret
from mesafs.auth.tokens import DEFAULT_TTL_SECONDS, InvalidTtl, looks_like_token, sign
from mesafs.base.clock import Clock, seconds
from mesafs.sdk import operations
from mesafs.sdk.errors import InvalidOptionsError, OrgResolutionError
from mesafs.sdk.exchange import Call
from mesafs.wire.organisations import Whoami

T = TypeVar("T")
P = ParamSpec("P")

DEFAULT_TOKEN_SCOPES = ("read", "write")


class Driver(Protocol):
    """Carries one call to the server."""

    async def run(self, call: Call[T]) -> T: ...


@dataclass(frozen=True, slots=True)
class TokenCreateResult:
    token: str = field(repr=False)
    expires_at: datetime
    scopes: list[str]
    repos: list[str] | None


class Session:
    """One client's credential and what has been learnt about it."""

    def __init__(self, driver: Driver, *, credential: str, org: str | None, clock: Clock) -> None:
        self._driver = driver
        self._credential = credential
        self._org = org
        self._clock = clock
        self._whoami: Whoami | None = None

    async def run(self, call: Call[T]) -> T:
        return await self._driver.run(call)

    async def whoami(self) -> Whoami:
        """Who the credential is; asked once."""
        if self._whoami is None:
            self._whoami = await self.run(operations.whoami())
        return self._whoami

    async def resolve_org(self, org: str | None = None) -> str:
        """The organisation of a call: the argument's, the client's, or the credential's."""
        if org and org.strip():
            return org.strip()
        if self._org is None:
            self._org = (await self.whoami()).org.slug
        if not self._org:
            raise OrgResolutionError("the server names no organisation", hint="set MESA_ORG")
        return self._org

    async def sign_token(
        self, scopes: list[str] | None, repos: list[str] | None, ttl_seconds: int | None
    ) -> TokenCreateResult:
        """Sign with the client's key. No network where the key carries its id."""
        if looks_like_token(self._credential):
            raise InvalidOptionsError(
                "an access token cannot sign further tokens",
                hint="make the client with an API key",
            )
        key_id = key_id_of(self._credential) or (await self.whoami()).key_id
        if not key_id:
            raise OrgResolutionError("the server did not say the id of this API key")
        now = seconds(self._clock)
        ttl = DEFAULT_TTL_SECONDS if ttl_seconds is None else ttl_seconds
        wanted = list(DEFAULT_TOKEN_SCOPES if scopes is None else scopes)
        try:
            token = sign(
                key_id=key_id,
                signing_secret=signing_secret(self._credential),
                scopes=wanted,
                repositories=repos,
                ttl_seconds=ttl,
                now_seconds=now,
                jti=str(uuid.uuid4()),
            )
        except InvalidTtl as error:
            raise InvalidOptionsError(error.message, hint=error.hint) from None
        return TokenCreateResult(token, datetime.fromtimestamp(now + ttl, UTC), wanted, repos)


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits on a loop to its end."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("a blocking driver must not suspend")


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The blocking form of an async method: the same code, arguments and result."""

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_now(method(self, *args, **kwargs))

    call.__name__ = method.__name__
    call.__doc__ = method.__doc__
    return call
