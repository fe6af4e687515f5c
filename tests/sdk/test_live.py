"""Both clients against a real server: the story of a user's first program."""

from __future__ import annotations

import asyncio
import base64
import io
import secrets
from collections.abc import Iterator

import pytest

import mesafs
import mesafs.sync
from mesafs.git.objects import blob_id, serialise_tree, tree_id
from mesafs.git.packs import OBJECT_BLOB, OBJECT_TREE, PackWriter
from mesafs.model.ids import BlobId, CheckoutId, PublishId, RepositoryId
from mesafs.model.objects import MODE_FILE, TreeEntry
from mesafs.sdk.errors import AuthenticationError, MissingObjects, NotFoundError
from mesafs.sdk.event_stream import StateChanged, StreamClosed
from mesafs.sdk.server_url import parse_url
from mesafs.sdk.sync_api import SyncApi
from mesafs.sdk.transport_http import HttpTransport
from mesafs.testing.server import RunningServer
from mesafs.wire.sync import PublishRequest, RepositoryState, decode_trees

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("sdk") / "data", org="acme") as running:
        yield running


@pytest.fixture
def mesa(server: RunningServer) -> Iterator[mesafs.sync.Mesa]:
    with mesafs.sync.Mesa(api_url=server.url, api_key=server.admin_key) as client:
        yield client


def test_the_first_program_works(server: RunningServer) -> None:
    async def program() -> None:
        async with mesafs.Mesa(api_url=server.api_url, api_key=server.admin_key) as mesa:
            await mesa.repos.create(name="first")
            change = await mesa.changes.create(
                repo="first",
                base_change_id=mesafs.VIRTUAL_ROOT_CHANGE_ID,
                message="first",
                author=mesafs.Author("Ada", "ada@example.org"),
                files=[mesafs.FileUpsert("a b.txt", base64.b64encode(b"hi").decode())],
            )
            bookmark = await mesa.bookmarks.get(repo="first", bookmark="main")
            assert bookmark.change_id == change.id
            assert await mesa.content.read(repo="first", path="a b.txt") == b"hi"
            found = await mesa.content.get(repo="first", path="a b.txt")
            assert found.is_file()
            token = await mesa.tokens.create(scopes=["read"], repos=["acme/first"])
        async with mesafs.Mesa(api_url=server.url, api_key=token.token) as reader:
            assert [repo.name for repo in (await reader.repos.list()).repos] == ["first"]
            with pytest.raises(NotFoundError):
                await reader.repos.get(repo="nothing")

    asyncio.run(program())


def test_a_revoked_key_is_refused_at_once(mesa: mesafs.sync.Mesa, server: RunningServer) -> None:
    made = mesa.api_keys.create(name="short", scopes=["read"])
    with mesafs.sync.Mesa(api_url=server.url, api_key=made.key) as other:
        assert other.whoami().key_id == made.id
        mesa.api_keys.revoke(key_id=made.id)

        with pytest.raises(AuthenticationError):
            other.repos.list()


@pytest.fixture
def target(mesa: mesafs.sync.Mesa) -> tuple[SyncApi, RepositoryState]:
    name = f"r{secrets.token_hex(4)}"
    mesa.repos.create(name=name)
    api = SyncApi(mesa.transport)
    [state] = api.resolve("acme", [(name, None)]).repositories
    return api, state


def publish_request(state: RepositoryState, tree: bytes) -> PublishRequest:
    return PublishRequest(
        PublishId(secrets.token_hex(8)),
        CheckoutId("c1"),
        state.bookmark,
        state.change,
        state.commit,
        tree,  # type: ignore[arg-type] # the test makes it
        message="m",
    )


def test_what_is_published_can_be_read_and_is_announced(
    target: tuple[SyncApi, RepositoryState],
) -> None:
    api, state = target
    content = b"hello " * 1000
    blob, absent = blob_id(content), BlobId(bytes(range(20)))
    tree_content = serialise_tree([TreeEntry(MODE_FILE, b"a", blob)])
    tree = tree_id(tree_content)
    file = io.BytesIO()
    pack = PackWriter(file)
    pack.add(OBJECT_BLOB, blob, content)
    pack.add(OBJECT_TREE, tree, tree_content)
    pack.finish()

    with api.events([(state.repository, None)]) as stream:
        events = iter(stream)
        first = next(events)
        with pytest.raises(MissingObjects) as caught:
            api.publish(state.repository, publish_request(state, tree))
        uploaded = api.upload_pack(state.repository, CheckoutId("c1"), file)
        request = publish_request(state, tree)
        answer = api.publish(state.repository, request)
        again = api.publish(state.repository, request)
        second = next(events)

    assert isinstance(first, StateChanged)
    assert first.state.commit == state.commit
    assert tree in caught.value.missing
    assert uploaded.objects == 2
    assert answer.state.tree == tree
    assert again == answer
    assert isinstance(second, StateChanged)
    assert (second.state.tree, second.state.commit) == (tree, answer.state.commit)
    [(root, entries)] = decode_trees(api.trees(state.repository, [tree]))
    assert root == tree
    assert [(entry.name, entry.size) for entry in entries] == [(b"a", len(content))]
    got = [
        (found, size, reader.read(1 << 20))
        for found, size, reader in api.blobs(state.repository, [absent, blob])
    ]
    assert got == [(absent, None, b""), (blob, len(content), content)]
    assert api.blob_range(state.repository, blob, 6, 6) == b"hello "


def test_a_stream_ends_with_its_reason_when_the_key_is_revoked(
    mesa: mesafs.sync.Mesa, server: RunningServer, target: tuple[SyncApi, RepositoryState]
) -> None:
    made = mesa.api_keys.create(scopes=["read"])
    transport = HttpTransport(parse_url(server.url), credential=made.key)

    with transport, SyncApi(transport).events([(target[1].repository, "main")]) as stream:
        events = iter(stream)
        next(events)
        mesa.api_keys.revoke(key_id=made.id)
        last = list(events)[-1]

    assert isinstance(last, StreamClosed)
    assert last.reason == "revoked"


def test_a_repository_of_nobody_is_not_found(mesa: mesafs.sync.Mesa) -> None:
    with pytest.raises(NotFoundError):
        SyncApi(mesa.transport).resolve("acme", [("nothing", None)])
    with pytest.raises(NotFoundError):
        SyncApi(mesa.transport).trees(RepositoryId("nothing"), [tree_id(b"")])
