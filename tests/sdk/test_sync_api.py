"""The sync client against exact bytes: good answers are values, everything else a clear error."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mesafs.base.errors import (
    Conflict,
    Denied,
    MesaError,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from mesafs.git.objects import blob_id
from mesafs.model.ids import (
    EMPTY_TREE,
    ROOT_CHANGE,
    ROOT_COMMIT,
    BlobId,
    CheckoutId,
    PublishId,
    RepositoryId,
)
from mesafs.sdk.errors import MissingObjects, UnexpectedAnswer, Unreachable
from mesafs.sdk.event_stream import StateChanged, StreamClosed
from mesafs.sdk.server_url import parse_url
from mesafs.sdk.sync_api import SyncApi
from mesafs.sdk.transport_http import HttpTransport
from mesafs.wire.sync import (
    BLOBS_TYPE,
    TREES_TYPE,
    PublishAnswer,
    PublishRequest,
    RepositoryState,
    encode_blob_head,
    encode_tree,
)
from support.polling import poll
from support.scripted_server import ScriptedServer, Starter, answer

REPOSITORY = RepositoryId("repo 1")
STATE = RepositoryState(
    REPOSITORY, "acme", "app", "main", ROOT_CHANGE, ROOT_COMMIT, EMPTY_TREE, 7, 3, "e1"
)
PUBLISH = PublishRequest(
    PublishId("p1"), CheckoutId("c1"), "main", ROOT_CHANGE, ROOT_COMMIT, EMPTY_TREE
)
SMALL, LARGE = blob_id(b"hi"), blob_id(b"x" * 300_000)


def transport_of(server: ScriptedServer, *, timeout_seconds: float = 5) -> HttpTransport:
    return HttpTransport(
        parse_url(server.url), credential="mesa_live_x", timeout_seconds=timeout_seconds
    )


def json_answer(value: Any, **more: str) -> bytes:
    return answer(json.dumps(value).encode(), **more)


def error(status: str, code: str, **details: Any) -> bytes:
    return json_answer(
        {"error": {"code": code, "message": f"said {code}", "details": details}}, status=status
    )


@pytest.fixture
def ask(scripted: Starter) -> Any:
    """Run one call against one scripted answer."""

    def run(reply: bytes, call: Callable[[SyncApi], Any]) -> Any:
        server = scripted([[reply]])
        with transport_of(server) as transport:
            return call(SyncApi(transport)), server

    return run


def test_resolve_says_who_and_where(ask: Any) -> None:
    body = {
        "server": "s1",
        "epoch": "e1",
        "scopes": ["read"],
        "expires_at": None,
        "key": "key_A",
        "repositories": [STATE.to_json()],
    }

    resolved, server = ask(json_answer(body), lambda api: api.resolve("acme", [("app", None)]))

    assert resolved.repositories == (STATE,)
    assert resolved.to_json() == body
    request = server.requests[0].decode()
    assert request.startswith("POST /sync/v1/resolve HTTP/1.1\r\n")
    assert "Authorization: Bearer mesa_live_x\r\n" in request
    assert "Mesa-Sync-Version: 1\r\n" in request
    assert request.endswith(
        '{"organisation": "acme", "repositories": [{"name": "app", "bookmark": null}]}'
    )


def test_trees_are_given_as_they_came(ask: Any) -> None:
    frames = encode_tree(EMPTY_TREE, [])

    body, server = ask(
        answer(frames, kind=TREES_TYPE), lambda api: api.trees(REPOSITORY, [EMPTY_TREE])
    )

    assert body == frames
    assert server.requests[0].startswith(b"POST /sync/v1/repositories/repo%201/trees ")


def test_blobs_stream_in_the_order_asked_and_unread_ones_are_skipped(ask: Any) -> None:
    frames = (
        encode_blob_head(LARGE, 300_000)
        + b"x" * 300_000
        + encode_blob_head(BlobId(bytes(20)), None)
        + encode_blob_head(SMALL, 2)
        + b"hi"
    )

    def read(api: SyncApi) -> list[tuple[bytes, int | None, bytes]]:
        return [
            (blob, size, b"" if blob == LARGE else reader.read(100))
            for blob, size, reader in api.blobs(REPOSITORY, [LARGE, BlobId(bytes(20)), SMALL])
        ]

    blobs, _ = ask(answer(frames, kind=BLOBS_TYPE), read)

    assert blobs == [(LARGE, 300_000, b""), (bytes(20), None, b""), (SMALL, 2, b"hi")]


@pytest.mark.parametrize(
    "frames",
    [
        encode_blob_head(SMALL, 2) + b"h",
        encode_blob_head(SMALL, 2)[:10],
        encode_blob_head(LARGE, 2) + b"hi",
        encode_blob_head(SMALL, 2) + b"hi" + encode_blob_head(SMALL, 2) + b"hi",
        b"",
    ],
    ids=["cut content", "cut head", "another blob", "one too many", "none"],
)
def test_blobs_that_were_not_asked_for_or_end_early_are_an_error(ask: Any, frames: bytes) -> None:
    with pytest.raises(Unavailable):
        ask(
            answer(frames, kind=BLOBS_TYPE),
            lambda api: [reader.read(9) for _, _, reader in api.blobs(REPOSITORY, [SMALL])],
        )


@pytest.mark.parametrize("honours", [True, False])
def test_a_range_is_the_same_from_a_server_that_ignores_ranges(ask: Any, honours: bool) -> None:
    whole = bytes(range(256)) * 4
    reply = answer(
        whole[300:400] if honours else whole,
        status="206 Partial Content" if honours else "200 OK",
        kind="application/octet-stream",
    )

    part, server = ask(reply, lambda api: api.blob_range(REPOSITORY, SMALL, 300, 100))

    assert part == whole[300:400]
    assert b"Range: bytes=300-399\r\n" in server.requests[0]


def test_conflicts_give_text_and_say_which_path_is_none(ask: Any) -> None:
    frames = encode_blob_head(SMALL, 2) + b"hi" + encode_blob_head(BlobId(bytes(20)), 0)

    texts, _ = ask(
        answer(frames, kind=BLOBS_TYPE),
        lambda api: list(api.conflicts(REPOSITORY, ROOT_COMMIT, [b"a", b"b\xff"])),
    )

    assert texts == [(b"a", SMALL, b"hi"), (b"b\xff", None, b"")]


def test_a_pack_is_sent_from_its_beginning(ask: Any) -> None:
    file = io.BytesIO(b"PACK" + bytes(100_000))
    file.seek(0, 2)

    uploaded, server = ask(
        json_answer({"pack": "ab", "objects": 3}),
        lambda api: api.upload_pack(REPOSITORY, CheckoutId("c1"), file),
    )

    assert uploaded.objects == 3
    assert server.requests[0].startswith(b"POST /sync/v1/repositories/repo%201/packs?checkout=c1 ")
    assert server.requests[0].endswith(b"\r\n\r\n" + file.getvalue())


def test_publish_gives_the_answer(ask: Any) -> None:
    expected = PublishAnswer(PublishId("p1"), STATE, (b"a",))

    got, server = ask(json_answer(expected.to_json()), lambda api: api.publish(REPOSITORY, PUBLISH))

    assert got == expected
    assert PublishRequest.from_json(json.loads(server.requests[0].split(b"\r\n\r\n")[1])) == PUBLISH


def test_missing_objects_are_named(ask: Any) -> None:
    reply = error("409 Conflict", "MISSING_OBJECTS", missing=[SMALL.hex(), LARGE.hex()])

    with pytest.raises(MissingObjects) as caught:
        ask(reply, lambda api: api.publish(REPOSITORY, PUBLISH))

    assert caught.value.missing == (SMALL, LARGE)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("401 Unauthorized", "UNAUTHENTICATED", Unauthenticated),
        ("403 Forbidden", "PERMISSION_DENIED", Denied),
        ("404 Not Found", "NOT_FOUND", NotFound),
        ("409 Conflict", "CONFLICT", Conflict),
        ("500 Internal Server Error", "UNAVAILABLE", Unavailable),
        ("503 Service Unavailable", "UNAVAILABLE", Unavailable),
    ],
)
def test_an_error_answer_is_an_error_of_its_kind(
    ask: Any, status: str, code: str, kind: type[MesaError]
) -> None:
    with pytest.raises(kind, match=f"said {code}"):
        ask(error(status, code), lambda api: api.resolve("acme", None))


def test_how_long_to_wait_is_told(ask: Any) -> None:
    reply = json_answer(
        {"error": {"code": "UNAVAILABLE", "message": "m"}},
        status="503 Service Unavailable",
        headers="Retry-After: 7\r\n",
    )

    with pytest.raises(Unavailable) as caught:
        ask(reply, lambda api: api.resolve("acme", None))

    assert getattr(caught.value, "retry_after_seconds") == 7  # noqa: B009 - a subclass has it


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        (answer(b"<html>login</html>", kind="text/html"), "11|18 bytes of text/html"),
        (answer(b"<html>", kind="text/html", status="502 Bad Gateway"), "answered 502"),
        (answer(b"", status="302 Found", headers="Location: http://evil/\r\n"), "redirect"),
        (answer(b"{", kind="application/json"), "1 bytes of application/json"),
        (answer(b"[]"), "not an object|not as agreed"),
        (answer(b'{"server": 7}'), "server is not text"),
        (b"rubbish\r\n\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
    ],
    ids=["html", "html 502", "redirect", "cut JSON", "list", "type", "not HTTP", "nothing"],
)
def test_what_is_not_a_sound_answer_is_unavailable_and_named(
    scripted: Starter, reply: bytes, names: str
) -> None:
    server = scripted([[reply]] * 3)

    with transport_of(server) as transport, pytest.raises(Unavailable, match=names):
        SyncApi(transport).resolve("acme", None)

    assert all(b"evil" not in request for request in server.requests)


def test_a_page_where_frames_should_be_is_unavailable(ask: Any) -> None:
    for call in (
        lambda api: api.trees(REPOSITORY, [EMPTY_TREE]),
        lambda api: list(api.blobs(REPOSITORY, [SMALL])),
        lambda api: list(api.events([(REPOSITORY, None)])),
    ):
        with pytest.raises(UnexpectedAnswer):
            ask(answer(b"<html>", kind="text/html"), call)


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(kind: str, number: int, body: Any) -> bytes:
    return f"id: {number}\r\nevent: {kind}\ndata: {json.dumps(body)}\n\n".encode()


def test_events_are_states_until_the_server_closes_with_a_reason(scripted: Starter) -> None:
    server = scripted(
        [
            [
                STREAM
                + b": beat\n\n"
                + event("state", 4, STATE.to_json())
                + event("later", 5, {})
                + event("closed", 6, {"reason": "revoked", "message": "the key is gone"})
            ]
        ]
    )

    with transport_of(server) as transport, SyncApi(transport).events([(REPOSITORY, "main")]) as s:
        events = list(s)

    assert events == [StateChanged(4, STATE), StreamClosed("revoked", "the key is gone")]
    assert b"repositories=repo+1&after=0&bookmarks=main " in server.requests[0]


def test_a_stream_that_just_ends_is_unavailable(scripted: Starter) -> None:
    server = scripted([[STREAM + event("state", 4, STATE.to_json())]])
    seen = []

    with (
        transport_of(server) as transport,
        SyncApi(transport).events([(REPOSITORY, None)]) as stream,
        pytest.raises(Unreachable, match="ended without a word"),
    ):
        seen.extend(stream)

    assert len(seen) <= 1


@pytest.mark.parametrize("data", [b"{", b'{"repository": 1}', b"[]"])
def test_an_event_of_rubbish_is_unavailable(scripted: Starter, data: bytes) -> None:
    server = scripted([[STREAM + b"event: state\nid: 1\ndata: " + data + b"\n\n"]])

    with (
        transport_of(server) as transport,
        SyncApi(transport).events([(REPOSITORY, None)]) as stream,
        pytest.raises(Unavailable),
    ):
        list(stream)


def test_closing_a_stream_from_another_thread_ends_the_iteration(scripted: Starter) -> None:
    server = scripted([[STREAM + event("state", 4, STATE.to_json())]], hold=True)
    seen: list[object] = []

    with transport_of(server) as transport:
        stream = SyncApi(transport).events([(REPOSITORY, None)])
        thread = threading.Thread(target=lambda: seen.extend(stream))
        thread.start()
        poll(lambda: len(server.requests) == 1)
        stream.close()
        thread.join(5)

    assert not thread.is_alive()


def test_a_silent_stream_is_unavailable(scripted: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesafs.sdk.sync_api.HEARTBEAT_SECONDS", 0.05)
    server = scripted([[STREAM]], hold=True)

    with (
        transport_of(server) as transport,
        SyncApi(transport).events([(REPOSITORY, None)]) as stream,
        pytest.raises(Unreachable, match="not answer in time"),
    ):
        list(stream)
