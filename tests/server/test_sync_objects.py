"""Trees, blobs and packs through a real server, and what it refuses to take or to show."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from mesafs.git.objects import blob_id, object_id
from mesafs.git.packs import OBJECT_BLOB, OBJECT_COMMIT, OBJECT_TREE
from mesafs.model.ids import TreeId
from mesafs.testing.server import RunningServer
from mesafs.testing.sync_client import Answer, SyncClient, pack_of
from mesafs.wire.sync import PREFIX, RepositoryState, decode_blobs, decode_trees

pytestmark = pytest.mark.system

BIG = bytes(range(256)) * (9 << 12)
FILES = {
    "a.txt": b"a",
    "big.bin": BIG,
    "d/b.txt": b"bb",
    "d/e/f/c.txt": b"ccc",
    "x/e/f/c.txt": b"ccc",
}
CONTENT = b"content\n"
BLOB = blob_id(CONTENT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[SyncClient]:
    with SyncClient(server.url, server.admin_key) as client:
        yield client


@pytest.fixture(scope="module")
def state(server: RunningServer) -> RepositoryState:
    with SyncClient(server.url, server.admin_key) as client:
        client.create_repository(server.org, "app")
        return client.publish(client.state(server.org, "app"), FILES).state


def ask_trees(
    client: SyncClient, state: RepositoryState, *, depth: int, max_bytes: int = 1 << 20
) -> list[tuple[TreeId, list[bytes]]]:
    body = {"roots": [state.tree.hex()], "depth": depth, "max_bytes": max_bytes}
    answer = client.call("POST", f"{PREFIX}/repositories/{state.repository}/trees", body)
    assert answer.status == 200, answer
    return [(tree, [e.name for e in entries]) for tree, entries in decode_trees(answer.body)]


def test_trees_come_breadth_first_and_each_once(client: SyncClient, state: RepositoryState) -> None:
    names = [names for _, names in ask_trees(client, state, depth=9)]

    # d/e and x/e are one tree.
    assert names == [
        [b"a.txt", b"big.bin", b"d", b"x"],
        [b"b.txt", b"e"],
        [b"e"],
        [b"f"],
        [b"c.txt"],
    ]


def test_depth_and_size_bound_an_answer_but_the_roots_always_come(
    client: SyncClient, state: RepositoryState
) -> None:
    assert len(ask_trees(client, state, depth=0)) == 1
    assert len(ask_trees(client, state, depth=1)) == 3
    assert len(ask_trees(client, state, depth=9, max_bytes=0)) == 1


def test_blobs_come_in_the_order_asked_and_an_absent_one_says_so(
    client: SyncClient, state: RepositoryState
) -> None:
    wanted = [blob_id(b"bb"), b"\1" * 20, blob_id(BIG), blob_id(b"a")]
    body = {"ids": [each.hex() for each in wanted]}

    answer = client.call("POST", f"{PREFIX}/repositories/{state.repository}/blobs", body)

    stream = io.BytesIO(answer.body)
    found = [
        (blob, None if size is None else stream.read(size))
        for blob, size in decode_blobs(stream.read)
    ]
    assert found == list(zip(wanted, [b"bb", None, BIG, b"a"], strict=True))


@pytest.mark.parametrize(
    ("header", "status", "start", "end"),
    [
        (None, 200, 0, len(BIG)),
        ("bytes=0-9", 206, 0, 10),
        ("bytes=1000000-1000099", 206, 1000000, 1000100),
        ("bytes=-5", 206, len(BIG) - 5, len(BIG)),
        (f"bytes={len(BIG) - 1}-", 206, len(BIG) - 1, len(BIG)),
        ("bytes=5-99999999999", 206, 5, len(BIG)),
        ("lines=1-2", 200, 0, len(BIG)),
        ("bytes=1-2,4-5", 200, 0, len(BIG)),
        (f"bytes={len(BIG)}-", 416, 0, 0),
        ("bytes=9-3", 416, 0, 0),
    ],
)
def test_one_range_of_a_blob_is_honoured(
    client: SyncClient,
    state: RepositoryState,
    header: str | None,
    status: int,
    start: int,
    end: int,
) -> None:
    headers = {} if header is None else {"Range": header}
    path = f"{PREFIX}/repositories/{state.repository}/blobs/{blob_id(BIG).hex()}"

    answer = client.call("GET", path, headers=headers)

    assert (answer.status, answer.body) == (status, BIG[start:end])


def test_another_version_of_the_protocol_is_refused(
    server: RunningServer, state: RepositoryState
) -> None:
    with SyncClient(server.url, server.admin_key, version="2") as client:
        answer = client.call("POST", f"{PREFIX}/resolve", {})

    assert (answer.status, answer.code) == (400, "UNSUPPORTED_PROTOCOL")


def test_resolve_names_what_it_does_not_find(client: SyncClient, server: RunningServer) -> None:
    for name in ("nothing", "APP", "../app"):
        body = {"organisation": server.org, "repositories": [{"name": name, "bookmark": None}]}
        answer = client.call("POST", f"{PREFIX}/resolve", body)
        assert answer.status == 404
        assert name in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"roots": "x", "depth": 0, "max_bytes": 0},
        {"roots": ["zz"], "depth": 0, "max_bytes": 0},
        {"roots": [], "depth": 0, "max_bytes": 0},
        {"roots": ["ab" * 20], "depth": -1, "max_bytes": 0},
        {"roots": ["ab" * 20], "depth": True, "max_bytes": 0},
        {"roots": ["ab" * 20] * 1001, "depth": 0, "max_bytes": 0},
    ],
)
def test_a_malformed_request_for_trees_is_refused(
    client: SyncClient, state: RepositoryState, body: object
) -> None:
    answer = client.call("POST", f"{PREFIX}/repositories/{state.repository}/trees", body)

    assert answer.status in {400, 404}


def tree(*entries: tuple[bytes, bytes, bytes]) -> bytes:
    return b"".join(mode + b" " + name + b"\0" + oid for mode, name, oid in entries)


def send(client: SyncClient, state: RepositoryState, content: bytes) -> Answer:
    return client.send_pack(
        state.repository, pack_of([(OBJECT_BLOB, CONTENT), (OBJECT_TREE, content)])
    )


@pytest.mark.parametrize(
    "name",
    [
        b".git", b".GIT", b".giT", b"git~1", b"GIT~1", b".git.", b".git ", b".git. .", b".git...",
        b".git:x", b".git::$INDEX_ALLOCATION", ".g\u200cit".encode(), ".\u200dgit".encode(),
        ".git\u206a".encode(), ".gi\ufefft".encode(), b"a\\.git\\hooks\\x", b"..\\x", b"..", b".",
        b"a/b", b"x" * 256, "\u20ac".encode() * 255,
    ],
)  # fmt: skip
def test_a_pack_with_a_name_that_no_repository_may_hold_is_refused(
    client: SyncClient, state: RepositoryState, name: bytes
) -> None:
    answer = send(client, state, tree((b"100644", name, BLOB)))

    assert answer.status == 400, name


@pytest.mark.parametrize(
    "name",
    [
        b"a\\b", b"a:b.txt", b"\xff\xfe", b"\xc0\xae\xc0\xae", b"a\nb", b"a\x1b[2J", b"-rf", b"CON",
        b"x" * 255, b"git~x", b".gitx", "é".encode(), "e\u0301".encode(), b"C:\\x",
    ],
)  # fmt: skip
def test_a_pack_with_an_odd_but_legal_name_is_taken(
    client: SyncClient, state: RepositoryState, name: bytes
) -> None:
    content = tree((b"100644", name, BLOB))

    answer = send(client, state, content)
    listed = ask_names(client, state, TreeId(object_id(b"tree", content)))

    assert answer.status == 200, answer
    assert listed == [name]


def ask_names(client: SyncClient, state: RepositoryState, root: TreeId) -> list[bytes]:
    body = {"roots": [root.hex()], "depth": 0, "max_bytes": 0}
    answer = client.call("POST", f"{PREFIX}/repositories/{state.repository}/trees", body)
    return [entry.name for _, entries in decode_trees(answer.body) for entry in entries]


@pytest.mark.parametrize(
    "entries",
    [
        [(b"100644", b"a", BLOB), (b"100644", b"a", BLOB)],
        [(b"100644", b"b", BLOB), (b"100644", b"a", BLOB)],
        [(b"100644", b"foo", BLOB), (b"40000", b"foo", object_id(b"tree", b""))],
        [(b"0", b"a", BLOB)],
        [(b"100664", b"a", BLOB)],
        [(b"100777", b"a", BLOB)],
        [(b"104755", b"a", BLOB)],
        [(b"020666", b"a", BLOB)],
        [(b"140000", b"a", BLOB)],
        [(b"160000", b"a", BLOB)],
        [(b"040000", b"a", object_id(b"tree", b""))],
        [(b"40000", b"a", BLOB)],
        [(b"100644", b"a", object_id(b"tree", b""))],
        [(b"100644", b"a", bytes(20))],
    ],
)
def test_a_tree_that_git_would_misread_is_refused(
    client: SyncClient, state: RepositoryState, entries: list[tuple[bytes, bytes, bytes]]
) -> None:
    pack = pack_of([(OBJECT_BLOB, CONTENT), (OBJECT_TREE, b""), (OBJECT_TREE, tree(*entries))])

    answer = client.send_pack(state.repository, pack)

    assert answer.status in {400, 409}


@pytest.mark.parametrize("target", [b"", b"x" * 4096, b"a\0b"])
def test_a_symlink_target_that_no_filesystem_holds_is_refused(
    client: SyncClient, state: RepositoryState, target: bytes
) -> None:
    content = tree((b"120000", b"l", blob_id(target)))

    answer = client.send_pack(
        state.repository, pack_of([(OBJECT_BLOB, target), (OBJECT_TREE, content)])
    )

    assert answer.status == 400


def test_gitmodules_as_a_symlink_is_refused(client: SyncClient, state: RepositoryState) -> None:
    for name in (b".gitmodules", b".GITMODULES", b"gitmod~1"):
        assert send(client, state, tree((b"120000", name, BLOB))).status == 400


@pytest.mark.parametrize(
    "pack",
    [
        b"",
        b"PACK",
        b"not a pack",
        pack_of([(OBJECT_BLOB, b"x")])[:-1],
        pack_of([(OBJECT_BLOB, b"x")]) + b"more",
        pack_of([(OBJECT_BLOB, b"x")])[:-25] + bytes(25),
        b"PACK" + (2).to_bytes(4) + (0xFFFFFFFF).to_bytes(4),
        pack_of([(OBJECT_COMMIT, b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx")]),
    ],
)  # fmt: skip
def test_bytes_that_are_not_a_whole_pack_of_blobs_and_trees_are_refused(
    client: SyncClient, state: RepositoryState, pack: bytes
) -> None:
    answer = client.send_pack(state.repository, pack)

    assert answer.status in {400, 409}, answer


def test_the_same_pack_twice_is_the_same_answer(client: SyncClient, state: RepositoryState) -> None:
    pack = pack_of([(OBJECT_BLOB, b"once and again")])

    first, second = (client.send_pack(state.repository, pack) for _ in range(2))

    assert (first.status, first.body) == (200, second.body)


def test_a_pack_over_the_limit_is_refused_and_nothing_stays(
    client: SyncClient, server: RunningServer, state: RepositoryState
) -> None:
    answer = client.send_pack(state.repository, bytes((32 << 20) + 1))

    folder = server.data_dir / "repositories" / f"{state.repository}.git" / "incoming"
    assert (answer.status, answer.code) == (400, "PACK_TOO_LARGE")
    assert list(folder.iterdir()) == []


def test_a_tree_deeper_than_a_path_may_be_is_refused_at_publish(
    client: SyncClient, state: RepositoryState
) -> None:
    levels = [tree((b"100644", b"f", BLOB))]
    for _ in range(2000):
        levels.append(tree((b"40000", b"d", object_id(b"tree", levels[-1]))))
    pack = pack_of([(OBJECT_BLOB, CONTENT), *((OBJECT_TREE, each) for each in levels)])
    assert client.send_pack(state.repository, pack).status == 200

    root = TreeId(object_id(b"tree", levels[-1]))
    answer = client.send_publish(state.repository, client.request(state, root))

    assert (answer.status, answer.code) == (400, "INVALID_PATH")


def test_a_token_for_one_repository_sees_no_other(
    client: SyncClient, server: RunningServer, state: RepositoryState
) -> None:
    other = client.create_repository(server.org, "other")
    made = client.call(
        "POST", f"/v1/{server.org}/api-keys", {"name": "one", "repo_ids": [other]}
    ).json
    body = {"roots": [state.tree.hex()], "depth": 0, "max_bytes": 0}

    with SyncClient(server.url, made["key"]) as narrow:
        trees = narrow.call("POST", f"{PREFIX}/repositories/{state.repository}/trees", body)
        mine = narrow.call("POST", f"{PREFIX}/repositories/{other}/trees", body)
        everything = narrow.call(
            "POST", f"{PREFIX}/resolve", {"organisation": server.org, "repositories": None}
        )

    assert (trees.status, mine.status) == (404, 404)
    assert [each["name"] for each in everything.json["repositories"]] == ["other"]
