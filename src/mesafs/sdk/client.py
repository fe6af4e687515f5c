"""The async client: ``async with Mesa() as mesa: await mesa.repos.list()``."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from mesafs.base.clock import Clock, SystemClock
from mesafs.sdk.config import ClientConfig, Flags, environment
from mesafs.sdk.resources import (
    ApiKeys,
    Bookmarks,
    Changes,
    Content,
    Diffs,
    OrgResource,
    Repos,
    Tokens,
)
from mesafs.sdk.session import Session
from mesafs.sdk.transport_httpx import HttpxTransport
from mesafs.wire.organisations import Whoami

DEFAULT_TIMEOUT_SECONDS = 30.0


class Mesa:
    """A client of one server under one credential.

    What is not given as an argument comes from ``MESA_API_KEY``, ``MESA_API_URL``, ``MESA_ORG`` and
    the configuration files. ``vcs_url`` is accepted for programs written for another client: our
    server has one address.
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
    ) -> None:
        del vcs_url
        config = ClientConfig.load(Flags(api_url=api_url, org=org, ca_file=ca_file), environment())
        credential = (api_key or "").strip() or config.require_credential()
        self.api_url = str(config.api_url)
        self._transport = HttpxTransport(
            config.api_url,
            credential=credential,
            ca_file=config.ca_file,
            timeout_seconds=timeout_seconds,
            user_agent=user_agent,
        )
        self._session = Session(
            self._transport, credential=credential, org=config.org, clock=clock or SystemClock()
        )
        self.repos = Repos(self._session)
        self.bookmarks = Bookmarks(self._session)
        self.changes = Changes(self._session)
        self.content = Content(self._session)
        self.diffs = Diffs(self._session)
        self.tokens = Tokens(self._session)
        self.api_keys = ApiKeys(self._session)
        self.org = OrgResource(self._session)

    async def whoami(self) -> Whoami:
        return await self._session.whoami()

    async def resolve_org(self, org: str | None = None) -> str:
        return await self._session.resolve_org(org)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
