"""Publishing through a real server: once each, merged where the bookmark moved on, nothing lost."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

import pytest

from mesafs.model.ids import TreeId
from mesafs.testing.server import RunningServer
from mesafs.testing.sync_client import SyncClient, pack_of
from mesafs.wire.sync import PREFIX, PublishAnswer, RepositoryState, decode_trees

pytestmark = pytest.mark.system

BASE = {"a.txt": b"1\n2\n3\n4\n5\n", "d/b.txt": b"b\n", "c.txt": b"c\n"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[SyncClient]:
    with SyncClient(server.url, server.admin_key) as client:
        yield client


@pytest.fixture
def empty(
    server: RunningServer, client: SyncClient, request: pytest.FixtureRequest
) -> RepositoryState:
    name = f"r{abs(hash(request.node.nodeid)) % 10**12}"
    client.create_repository(server.org, name)
    return client.state(server.org, name)


@pytest.fixture
def base(client: SyncClient, empty: RepositoryState) -> RepositoryState:
    return client.publish(empty, BASE).state


def operations_of(client: SyncClient, state: RepositoryState) -> int:
    return client.state(state.organisation, state.name).operation


def files_at(client: SyncClient, state: RepositoryState) -> dict[str, bytes]:
    """Every file of a state, fetched as a mount would."""
    path = f"{PREFIX}/repositories/{state.repository}"
    body = {"roots": [state.tree.hex()], "depth": 20, "max_bytes": 1 << 20}
    trees = dict(decode_trees(client.call("POST", f"{path}/trees", body).body))
    found: dict[str, bytes] = {}

    def walk(tree: TreeId, prefix: str) -> None:
        for entry in trees[tree]:
            name = prefix + entry.name.decode()
            if entry.mode == 0o040000:
                walk(TreeId(entry.id), name + "/")
            else:
                found[name] = client.call("GET", f"{path}/blobs/{entry.id.hex()}").body
                assert len(found[name]) == entry.size

    walk(state.tree, "")
    return found


def test_the_first_publish_opens_a_change_that_the_bookmark_moves_to(
    client: SyncClient, empty: RepositoryState
) -> None:
    answer = client.publish(empty, BASE)

    now = client.state(empty.organisation, empty.name)
    assert answer.state == now
    assert now.change != empty.change
    assert files_at(client, now) == BASE


def test_a_second_publish_amends_the_open_change(client: SyncClient, base: RepositoryState) -> None:
    answer = client.publish(base, {**BASE, "new": b"n"})

    assert answer.state.change == base.change
    assert answer.state.commit != base.commit
    assert files_at(client, answer.state) == {**BASE, "new": b"n"}


def test_successive_publishes_of_a_checkout_are_one_operation(
    client: SyncClient, base: RepositoryState
) -> None:
    second = client.publish(base, {**BASE, "new": b"1"}).state
    third = client.publish(second, {**BASE, "new": b"2"}).state
    other = client.publish(third, {**BASE, "new": b"3"}, checkout="checkout-2").state

    assert base.operation == second.operation == third.operation == other.operation - 1


def test_an_import_is_never_amended(client: SyncClient, empty: RepositoryState) -> None:
    imported = client.publish(empty, BASE, message="import of a folder").state

    edited = client.publish(imported, {**BASE, "new": b"n"}).state

    assert edited.change != imported.change


def test_a_repeated_publish_gets_its_first_answer(
    client: SyncClient, base: RepositoryState
) -> None:
    tree = client.send_files(base.repository, {**BASE, "new": b"n"})
    request = client.request(base, tree, publish_id="the-same")
    first = client.send_publish(base.repository, request)
    later = client.publish(PublishAnswer.from_json(first.json).state, {"only": b"this"}).state

    again = client.send_publish(base.repository, request)

    assert again.json == first.json
    assert client.state(base.organisation, base.name).commit == later.commit


def test_a_publish_sent_twice_at_once_is_carried_out_once(
    server: RunningServer, client: SyncClient, base: RepositoryState
) -> None:
    tree = client.send_files(base.repository, {**BASE, "new": b"n"})
    request = client.request(base, tree, publish_id="at-once")
    answers: list[bytes] = []

    def send() -> None:
        with SyncClient(server.url, server.admin_key) as other:
            answers.append(other.send_publish(base.repository, request).body)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(answers)) == 1
    assert operations_of(client, base) == base.operation


def test_a_tree_that_changes_nothing_makes_no_commit(
    client: SyncClient, base: RepositoryState
) -> None:
    answer = client.publish(base, BASE, checkout="checkout-2")

    assert (answer.state.change, answer.state.commit) == (base.change, base.commit)
    assert answer.state.operation == base.operation + 1


def test_edits_of_different_files_and_lines_merge(
    client: SyncClient, base: RepositoryState
) -> None:
    client.publish(base, {**BASE, "a.txt": b"one\n2\n3\n4\n5\n", "mine": b"m"})

    answer = client.publish(
        base, {"a.txt": b"1\n2\n3\n4\nfive\n", "d/b.txt": b"b\n"}, checkout="checkout-2"
    )

    assert answer.conflicts == ()
    assert files_at(client, answer.state) == {
        "a.txt": b"one\n2\n3\n4\nfive\n",
        "d/b.txt": b"b\n",
        "mine": b"m",
    }


def test_edits_of_the_same_line_are_a_recorded_conflict_with_both_sides(
    client: SyncClient, base: RepositoryState
) -> None:
    client.publish(base, {**BASE, "c.txt": b"mine\n"})

    answer = client.publish(base, {**BASE, "c.txt": b"yours\n"}, checkout="checkout-2")

    assert answer.conflicts == answer.state.conflicts == (b"c.txt",)
    assert files_at(client, answer.state)["c.txt"] == b"mine\n"
    text = client.conflict_text(answer.state, b"c.txt")
    assert text is not None
    assert b"mine\n" in text
    assert b"yours\n" in text
    assert client.conflict_text(answer.state, b"a.txt") is None


def test_other_edits_carry_a_conflict_and_an_edit_without_markers_resolves_it(
    client: SyncClient, base: RepositoryState
) -> None:
    client.publish(base, {**BASE, "c.txt": b"mine\n"})
    conflicted = client.publish(base, {**BASE, "c.txt": b"yours\n"}, checkout="2").state

    carried = client.publish(conflicted, {**BASE, "c.txt": b"mine\n", "new": b"n"}).state
    resolved = client.publish(
        carried, {**BASE, "c.txt": b"mine\n", "new": b"n"}, touched=[b"c.txt"]
    ).state

    assert carried.conflicts == (b"c.txt",)
    assert resolved.conflicts == ()
    assert files_at(client, resolved)["c.txt"] == b"mine\n"


def test_an_edited_side_of_a_conflict_stays_a_conflict_without_stored_markers(
    client: SyncClient, base: RepositoryState
) -> None:
    client.publish(base, {**BASE, "c.txt": b"mine\n"})
    conflicted = client.publish(base, {**BASE, "c.txt": b"yours\n"}, checkout="2").state
    text = client.conflict_text(conflicted, b"c.txt")
    assert text is not None

    edited = client.publish(
        conflicted,
        {**BASE, "c.txt": text.replace(b"mine", b"better")},
        touched=[b"c.txt"],
    ).state

    assert edited.conflicts == (b"c.txt",)
    assert files_at(client, edited)["c.txt"] == b"better\n"
    assert client.conflict_text(edited, b"c.txt") == text.replace(b"mine", b"better")


def test_twelve_writers_at_once_lose_nothing(
    server: RunningServer, client: SyncClient, base: RepositoryState
) -> None:
    def write(number: int) -> None:
        with SyncClient(server.url, server.admin_key) as other:
            files = {**BASE, f"file-{number}": b"%d" % number}
            other.publish(base, files, checkout=f"checkout-{number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    now = client.state(base.organisation, base.name)
    expected = {f"file-{number}": b"%d" % number for number in range(12)}
    assert files_at(client, now) == {**BASE, **expected}


def test_a_tree_that_was_not_sent_is_named_as_missing(
    client: SyncClient, base: RepositoryState
) -> None:
    answer = client.send_publish(base.repository, client.request(base, TreeId(b"x" * 20)))

    assert (answer.status, answer.code) == (409, "MISSING_OBJECTS")
    assert answer.json["error"]["details"]["missing"] == [(b"x" * 20).hex()]
    assert operations_of(client, base) == base.operation


def test_objects_of_another_repository_do_not_count(
    server: RunningServer, client: SyncClient, base: RepositoryState
) -> None:
    other = client.create_repository(server.org, f"{base.name}-other")
    tree = client.send_files(other, {"secret": b"s"})

    published = client.send_publish(base.repository, client.request(base, tree))
    body = {"roots": [tree.hex()], "depth": 0, "max_bytes": 1}
    listed = client.call("POST", f"{PREFIX}/repositories/{base.repository}/trees", body)
    referring = client.send_pack(base.repository, pack_of([(2, b"40000 stolen\0" + tree)]))

    assert (published.status, published.code) == (409, "MISSING_OBJECTS")
    assert listed.status == 404
    assert (referring.status, referring.code) == (409, "MISSING_OBJECTS")


def test_a_base_that_never_was_is_a_conflict(client: SyncClient, base: RepositoryState) -> None:
    request = client.request(base, base.tree)
    strange = {**request.to_json(), "base_commit": "ab" * 20}

    answer = client.call("POST", f"{PREFIX}/repositories/{base.repository}/publish", strange)

    assert (answer.status, answer.code) == (409, "UNKNOWN_BASE")


@pytest.mark.parametrize(
    "spoiled",
    [
        {"publish_id": ""},
        {"checkout_id": "x" * 129},
        {"tree": "nonsense"},
        {"touched_conflicts": ["\ud800"]},
        {"bookmark": 7},
    ],
)
def test_a_malformed_publish_is_refused(
    client: SyncClient, base: RepositoryState, spoiled: dict[str, object]
) -> None:
    body = {**client.request(base, base.tree).to_json(), **spoiled}

    answer = client.call("POST", f"{PREFIX}/repositories/{base.repository}/publish", body)

    assert answer.status == 400
    assert operations_of(client, base) == base.operation


def test_a_reader_may_not_publish_and_a_revoked_key_may_do_nothing(
    server: RunningServer, client: SyncClient, base: RepositoryState
) -> None:
    made = client.call(
        "POST", f"/v1/{server.org}/api-keys", {"name": "reader", "scopes": ["read"]}
    ).json
    with SyncClient(server.url, made["key"]) as reader:
        refused = reader.send_publish(base.repository, reader.request(base, base.tree))
        pack = reader.send_pack(base.repository, pack_of([(3, b"x")]))
        client.call("DELETE", f"/v1/{server.org}/api-keys/{made['id']}")
        gone = reader.send_publish(base.repository, reader.request(base, base.tree))

    assert (refused.status, pack.status, gone.status) == (403, 403, 401)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        "pack.stage:1:kill",
        "pack.sync:1:kill",
        "pack.sync:3:kill",
        "pack.rename:1:kill",
        "pack.rename:2:kill",
        "pack.rename:4:kill",
        "pack.dirsync:1:kill",
        "pack.dirsync:2:kill",
        "catalogue.commit:1:kill",
        "catalogue.commit:2:kill",
        "reply.send:1:kill",
        "reply.send:2:kill",
        "projection.rename:1:kill",
    ],
)
def test_a_server_killed_at_any_step_keeps_what_it_acknowledged_and_takes_the_repeat_once(
    tmp_path: Path, fault: str
) -> None:
    server = RunningServer.start(tmp_path / "data")
    with SyncClient(server.url, server.admin_key) as client:
        repository = client.create_repository(server.org, "app")
        first = client.publish(client.state(server.org, "app"), {"a": b"1"}).state
        request = client.request(first, TreeId(bytes(20)), publish_id="in-doubt")
    server.stop()

    server = server.restart(faults=fault)
    with SyncClient(server.url, server.admin_key) as client, suppress(OSError, HTTPException):
        tree = client.send_files(repository, {"a": b"2"})
        client.send_publish(repository, replace(request, tree=tree))
    server.process.wait(10)
    assert server.process.returncode == -signal.SIGKILL

    with server.restart() as server, SyncClient(server.url, server.admin_key) as client:
        between = client.state(server.org, "app")
        tree = client.send_files(repository, {"a": b"2"})
        answers = [
            client.send_publish(repository, replace(request, tree=tree)).json for _ in range(2)
        ]
        now = client.state(server.org, "app")
    assert between.commit in {first.commit, now.commit}
    assert answers[0] == answers[1]
    assert (now.tree, now.operation) == (tree, first.operation)
    folder = tmp_path / "data" / "repositories" / f"{repository}.git"
    assert list((folder / "incoming").iterdir()) == []
    subprocess.run(["git", "-C", str(folder), "fsck", "--strict"], check=True, capture_output=True)
