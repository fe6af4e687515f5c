"""The event stream: where everything stands, then each move, and an end with a reason."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import pytest

from mesafs.model.ids import RepositoryId
from mesafs.testing.server import RunningServer
from mesafs.testing.sync_client import SyncClient
from mesafs.wire.sync import PREFIX, PROTOCOL_VERSION, VERSION_HEADER

pytestmark = pytest.mark.system


class Stream:
    """Reads server-sent events one by one."""

    def __init__(self, url: str, credential: str, repositories: list[str], **more: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        query = urlencode({"repositories": ",".join(repositories), "after": "0", **more})
        headers = {
            "Authorization": f"Bearer {credential}",
            VERSION_HEADER: str(PROTOCOL_VERSION),
        }
        self._connection.request("GET", f"{PREFIX}/events?{query}", headers=headers)
        self.answer = self._connection.getresponse()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self._connection.close()

    def next(self) -> tuple[str, Any]:
        """The next event; comments are passed over."""
        kind, data = "", ""
        while line := self.answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            kind, data = (value, data) if name == "event" else (kind, data)
            data = value if name == "data" else data
        return (kind, json.loads(data)) if kind else self.next()

    def rest(self) -> bytes:
        return self.answer.read()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[SyncClient]:
    with SyncClient(server.url, server.admin_key) as client:
        yield client


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"r{abs(hash(request.node.nodeid)) % 10**12}"


@pytest.fixture
def repository(server: RunningServer, client: SyncClient, name: str) -> RepositoryId:
    return client.create_repository(server.org, name)


def reader_key(client: SyncClient, server: RunningServer, **more: object) -> dict[str, str]:
    body = {"name": "reader", "scopes": ["read"], **more}
    made: dict[str, str] = client.call("POST", f"/v1/{server.org}/api-keys", body).json
    return made


def test_a_stream_begins_with_the_state_and_tells_each_move(
    server: RunningServer, client: SyncClient, repository: RepositoryId, name: str
) -> None:
    with Stream(server.url, server.admin_key, [repository]) as stream:
        first = stream.next()
        published = client.publish(client.state(server.org, name), {"a": b"1"}).state
        second = stream.next()

    assert first[0] == second[0] == "state"
    assert first[1]["commit"] == "0" * 40
    assert second[1] == published.to_json()


def test_a_stream_tells_nothing_of_a_repository_it_does_not_watch(
    server: RunningServer, client: SyncClient, repository: RepositoryId, name: str
) -> None:
    client.create_repository(server.org, f"{name}-other")
    with Stream(server.url, server.admin_key, [repository]) as stream:
        stream.next()
        client.publish(client.state(server.org, f"{name}-other"), {"a": b"1"})
        published = client.publish(client.state(server.org, name), {"b": b"2"}).state

        assert stream.next()[1] == published.to_json()


def test_a_revoked_key_ends_its_streams_within_a_second(
    server: RunningServer, client: SyncClient, repository: RepositoryId
) -> None:
    key = reader_key(client, server)
    with Stream(server.url, key["key"], [repository]) as stream:
        stream.next()
        began = time.monotonic()
        client.call("DELETE", f"/v1/{server.org}/api-keys/{key['id']}")
        kind, data = stream.next()

        assert (kind, data["reason"]) == ("closed", "revoked")
        assert stream.rest() == b""
        assert time.monotonic() - began < 1


def test_a_deleted_repository_ends_the_stream(
    server: RunningServer, client: SyncClient, repository: RepositoryId, name: str
) -> None:
    with Stream(server.url, server.admin_key, [repository]) as stream:
        stream.next()
        client.call("DELETE", f"/v1/{server.org}/{name}")
        kind, data = stream.next()

    assert (kind, data["reason"]) == ("closed", "deleted")


def test_a_stream_of_what_may_not_be_seen_is_not_found(
    server: RunningServer, client: SyncClient, repository: RepositoryId, name: str
) -> None:
    other = client.create_repository(server.org, f"{name}-other")
    key = reader_key(client, server, repo_ids=[other])

    with Stream(server.url, key["key"], [repository]) as stream:
        assert stream.answer.status == 404


@pytest.mark.parametrize(
    "more",
    [
        {"after": "-1"},
        {"after": "9" * 30},
        {"after": "x"},
        {"bookmarks": "a,b"},
        {"strange": "1"},
    ],
)
def test_a_malformed_position_is_refused(
    server: RunningServer, repository: RepositoryId, more: dict[str, str]
) -> None:
    with Stream(server.url, server.admin_key, [repository], **more) as stream:
        assert stream.answer.status == 400


def test_a_server_that_ends_says_so_and_does_not_wait_for_its_streams(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = RunningServer.start(tmp_path_factory.mktemp("server") / "data")
    with SyncClient(server.url, server.admin_key) as client:
        repository = client.create_repository(server.org, "app")
    with Stream(server.url, server.admin_key, [repository]) as stream:
        stream.next()
        began = time.monotonic()
        server.process.terminate()
        kind, data = stream.next()
        status = server.stop()

    assert (kind, data["reason"], status) == ("closed", "shutdown", 0)
    assert time.monotonic() - began < 3


def test_many_streams_by_one_key_are_refused_clearly_and_closing_frees(
    server: RunningServer, client: SyncClient, repository: RepositoryId
) -> None:
    key = reader_key(client, server)
    streams = [Stream(server.url, key["key"], [repository]) for _ in range(201)]

    statuses = [stream.answer.status for stream in streams]
    refused = json.loads(streams[statuses.index(400)].rest())
    for stream in streams:
        stream.__exit__()

    assert sorted(set(statuses)) == [200, 400]
    assert statuses.count(400) == 1
    assert refused["error"]["code"] == "LIMIT_EXCEEDED"
