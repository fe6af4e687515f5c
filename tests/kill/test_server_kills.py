"""What a server acknowledged is there after it was killed, and nothing is there twice."""

from __future__ import annotations

import base64
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mesafs.model.ids import RepositoryId
from mesafs.testing.server import RunningServer
from mesafs.testing.sync_client import SyncClient
from support.kill_rounds import Scene, Tally, repository_folder
from support.plain_git import git
from support.rest import AUTHOR, Rest
from support.seeds import SEED

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]

#: Each durable step of a server that takes changes and publishes, and how many arrivals to choose from.
STEPS = {
    "pack.stage": 6,
    "pack.sync": 8,
    "pack.rename": 8,
    "pack.dirsync": 6,
    "catalogue.commit": 12,
    "projection.rename": 4,
    "reply.send": 6,
}
ROUNDS_AT_EACH_STEP = 5
ROUNDS_AT_RANDOM = 15
ROUNDS_UNDER_A_MOUNT = 30
MORE_ROUNDS = 14
WRITERS = 4
CALLS_OF_A_WRITER = 8


@dataclass
class Writer:
    """One client; every answer it got, and the calls it does not know the outcome of."""

    server: RunningServer
    number: int
    repository: RepositoryId
    changes: list[dict[str, Any]] = field(default_factory=list)
    publishes: list[dict[str, Any]] = field(default_factory=list)
    doubtful: int = 0

    def run(self, random: Random) -> None:
        try:
            with (
                Rest(self.server.api_url, self.server.org, self.server.admin_key) as rest,
                SyncClient(self.server.url, self.server.admin_key) as sync,
            ):
                for call in range(CALLS_OF_A_WRITER):
                    if random.random() < 0.5:
                        self._change(rest, f"w{self.number}-{call}", random)
                    else:
                        self._publish(sync, f"w{self.number}-{call}", random)
        except (OSError, HTTPException):
            return

    def _change(self, rest: Rest, name: str, random: Random) -> None:
        content = random.randbytes(random.randrange(2000))
        self.doubtful += 1
        answer = rest.post(
            f"/{rest.org}/app/changes",
            {
                "base_change_id": "z" * 32,
                "message": name,
                "author": AUTHOR,
                "files": [
                    {
                        "action": "upsert",
                        "path": name,
                        "content": base64.b64encode(content).decode(),
                        "encoding": "base64",
                    }
                ],
            },
        )
        self.doubtful -= 1
        assert answer.status == 201, answer
        self.changes.append(answer.json() | {"content": content, "path": name})

    def _publish(self, sync: SyncClient, name: str, random: Random) -> None:
        content = random.randbytes(random.randrange(2000))
        state = sync.state(self.server.org, "app", f"b{self.number}")
        tree = sync.send_files(self.repository, {name: content})
        request = sync.request(
            state,
            tree,
            publish_id=f"{name}-{random.randrange(1 << 60)}",
            checkout=f"checkout-{self.number}",
        )
        self.doubtful += 1
        answer = sync.send_publish(self.repository, request)
        self.doubtful -= 1
        assert answer.status == 200, answer
        self.publishes.append({"request": request, "answer": answer.json})


def one_round(data: Path, seed: str, tally: Tally, *, faults: str | None, seconds: float) -> None:
    tally.rounds += 1
    with RunningServer.start(data) as first:
        with SyncClient(first.url, first.admin_key) as sync:
            repository = sync.create_repository(first.org, "app")
        with Rest(first.api_url, first.org, first.admin_key) as rest:
            for number in range(WRITERS):
                made = rest.post(
                    f"/{first.org}/app/bookmarks", {"name": f"b{number}", "change_id": "z" * 32}
                )
                assert made.status == 201, made
    before = _count(data, "operations")
    server = first.restart(faults=faults)
    writers = [Writer(server, number, repository) for number in range(WRITERS)]
    threads = [
        threading.Thread(target=writer.run, args=(Random(f"{seed}/{writer.number}"),))
        for writer in writers
    ]
    timer = threading.Timer(seconds, server.process.kill)
    for thread in threads:
        thread.start()
    timer.start()
    for thread in threads:
        thread.join()
    timer.cancel()
    timer.join()
    struck = server.process.poll()
    server.kill()
    if struck == -signal.SIGKILL:
        tally.struck[faults.partition(":")[0] if faults else "at random"] += 1
    with server.restart() as again:
        tally.calls += sum(len(w.changes) + len(w.publishes) for w in writers)
        tally.in_doubt += sum(writer.doubtful for writer in writers)
        _check(again, repository, writers, before)
    git("fsck", "--strict", cwd=repository_folder(server, repository))


def _check(
    server: RunningServer, repository: RepositoryId, writers: list[Writer], before: int
) -> None:
    with (
        Rest(server.api_url, server.org, server.admin_key) as rest,
        SyncClient(server.url, server.admin_key) as sync,
    ):
        for writer in writers:
            for change in writer.changes:
                kept = rest.get(f"/{server.org}/app/changes/{change['id']}", expect=200).json()
                assert kept["current_commit_oid"] == change["current_commit_oid"]
                place = f"?change_id={change['id']}&path={change['path']}"
                got = rest.get(
                    f"/{server.org}/app/content{place}",
                    expect=200,
                    Accept="application/octet-stream",
                )
                assert got.body == change["content"]
            for publish in writer.publishes:
                again = sync.send_publish(repository, publish["request"])
                assert again.json == publish["answer"]
            if writer.publishes and not writer.doubtful:
                state = sync.state(server.org, "app", f"b{writer.number}")
                assert state.commit.hex() == writer.publishes[-1]["answer"]["state"]["commit"]
    changes = sum(len(writer.changes) for writer in writers)
    publishes = sum(len(writer.publishes) for writer in writers)
    doubtful = sum(writer.doubtful for writer in writers)
    data = server.data_dir
    assert publishes <= _count(data, "publishes") <= publishes + doubtful
    made = _count(data, "operations") - before
    assert changes <= made <= changes + publishes + doubtful
    kept_changes = _count(data, "operations WHERE kind = 'change.create'")
    assert changes <= kept_changes <= changes + doubtful


def _count(data: Path, what: str) -> int:
    with closing(sqlite3.connect(data / "catalogue.sqlite")) as database:
        return int(database.execute(f"SELECT count(*) FROM {what}").fetchone()[0])


def test_killed_at_each_named_step_under_four_writers(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    steps, tally = sorted(STEPS), Tally()

    def play(number: int, step: str, nth: int) -> None:
        try:
            one_round(
                tmp_path / f"data-{number}",
                f"{SEED}/{number}",
                tally,
                faults=f"{step}:{nth}:kill",
                seconds=30,
            )
        except BaseException as error:
            error.add_note(f"MESA_SEED={SEED}, round {number}, {step}:{nth}")
            raise

    for number in range(ROUNDS_AT_EACH_STEP * len(steps)):
        step = steps[number % len(steps)]
        play(number, step, 1 + Random(f"{SEED}/{number}").randrange(STEPS[step]))
    for number in range(1000, 1000 + MORE_ROUNDS):
        if missing := [step for step in steps if step not in tally.struck]:
            play(number, missing[0], 1)

    record_property("told at the end", f"server, named steps, MESA_SEED={SEED}: {tally}")
    assert sorted(tally.struck) == steps


def test_killed_at_any_moment_under_four_writers(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally()

    for number in range(ROUNDS_AT_RANDOM):
        seconds = Random(f"{SEED}/{number}").random() * 0.4
        data = tmp_path / f"data-{number}"
        try:
            one_round(data, f"{SEED}/{number}", tally, faults=None, seconds=seconds)
        except BaseException as error:
            error.add_note(f"MESA_SEED={SEED}, round {number}")
            raise

    record_property("told at the end", f"server, any moment, MESA_SEED={SEED}: {tally}")
    assert tally.struck["at random"] > ROUNDS_AT_RANDOM // 4


@pytest.mark.needs("fuse", "root")
def test_killed_under_a_mount_which_then_publishes_everything(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    steps, tally = sorted(STEPS), Tally()
    server = RunningServer.start(tmp_path / "server")
    folder = tmp_path / "scene"
    folder.mkdir(mode=0o700)
    scene = Scene(server, folder, name="work", tally=tally)
    try:
        for number in range(ROUNDS_UNDER_A_MOUNT):
            step = steps[number % len(steps)]
            random = Random(f"{SEED}/{number}")
            nth = 1 + random.randrange(3)
            server.stop()
            server = server.restart(faults=f"{step}:{nth}:kill")
            try:
                scene.round_of_server(server, f"{SEED}/{number}", step)
                scene.check_repository()
            except BaseException as error:
                error.add_note(f"MESA_SEED={SEED}, round {number}, {step}:{nth}")
                raise
            server = scene.server
    finally:
        scene.close()
        scene.server.kill()
        server.kill()

    record_property("told at the end", f"server under a mount, MESA_SEED={SEED}: {tally}")
    assert sum(tally.struck.values()) > ROUNDS_UNDER_A_MOUNT // 3
