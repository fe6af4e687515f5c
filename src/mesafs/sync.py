"""The blocking twin of the client: ``with Mesa() as mesa: mesa.repos.list()``.

The same operations, arguments, results and errors as :class:`mesafs.Mesa`, carried by the standard
library alone. Nothing is written twice: each method is the async one, run to its end at once.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from mesafs.base.clock import Clock, SystemClock
from mesafs.sdk import resources
from mesafs.sdk.config import ClientConfig, Flags, environment
from mesafs.sdk.exchange import Call
from mesafs.sdk.resources import Resource
from mesafs.sdk.session import Session, blocking, run_now
from mesafs.sdk.transport_http import DEFAULT_TIMEOUT_SECONDS, HttpTransport
from mesafs.wire.organisations import Whoami

T = TypeVar("T")


class OrgResource(Resource):
    get = blocking(resources.OrgResource.get)


class Tokens(Resource):
    create = blocking(resources.Tokens.create)


class ApiKeys(Resource):
    list = blocking(resources.ApiKeys.list)
    create = blocking(resources.ApiKeys.create)
    revoke = blocking(resources.ApiKeys.revoke)


class Repos(Resource):
    list = blocking(resources.Repos.list)
    create = blocking(resources.Repos.create)
    get = blocking(resources.Repos.get)
    update = blocking(resources.Repos.update)
    delete = blocking(resources.Repos.delete)


class Bookmarks(Resource):
    list = blocking(resources.Bookmarks.list)
    get = blocking(resources.Bookmarks.get)
    create = blocking(resources.Bookmarks.create)


class Changes(Resource):
    list = blocking(resources.Changes.list)
    create = blocking(resources.Changes.create)
    get = blocking(resources.Changes.get)
    patch = blocking(resources.Changes.patch)


class Content(Resource):
    get = blocking(resources.Content.get)
    read = blocking(resources.Content.read)


class Diffs(Resource):
    get = blocking(resources.Diffs.get)


class _BlockingDriver:
    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    async def run(self, call: Call[T]) -> T:
        return self._transport.run(call)


class Mesa:
    """A blocking client of one server under one credential; see :class:`mesafs.Mesa`.

    ``config`` is for callers that have read the settings already; then only ``api_key`` is looked at.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        api_url: str | None = None,
        vcs_url: str | None = None,
        org: str | None = None,
        user_agent: str | None = None,
        ca_file: Path | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        clock: Clock | None = None,
        config: ClientConfig | None = None,
    ) -> None:
        del vcs_url
        if config is None:
            config = ClientConfig.load(
                Flags(api_url=api_url, org=org, ca_file=ca_file), environment()
            )
        credential = (api_key or "").strip() or config.require_credential()
        clock = clock or SystemClock()
        self.api_url = str(config.api_url)
        self.transport = HttpTransport(
            config.api_url,
            credential=credential,
            ca_file=config.ca_file,
            timeout_seconds=timeout_seconds,
            user_agent=user_agent,
            clock=clock,
        )
        session = Session(
            _BlockingDriver(self.transport), credential=credential, org=config.org, clock=clock
        )
        self._session = session
        self.repos = Repos(session)
        self.bookmarks = Bookmarks(session)
        self.changes = Changes(session)
        self.content = Content(session)
        self.diffs = Diffs(session)
        self.tokens = Tokens(session)
        self.api_keys = ApiKeys(session)
        self.org = OrgResource(session)

    def whoami(self) -> Whoami:
        return run_now(self._session.whoami())

    def resolve_org(self, org: str | None = None) -> str:
        return run_now(self._session.resolve_org(org))

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
