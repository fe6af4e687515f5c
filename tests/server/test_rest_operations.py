"""Every mutation writes exactly one operation, with its events, and a refused one writes none."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

from mesafs.testing.server import RunningServer
from support.rest import ROOT, Answer, Rest, upsert

MUTATING = {"POST", "PATCH", "DELETE", "PUT"}


class Counting(Rest):
    """Counts the 2xx answers of mutating requests."""

    succeeded = 0

    def send(self, method: str, *rest: Any, **more: Any) -> Answer:
        answer = super().send(method, *rest, **more)
        if method in MUTATING and 200 <= answer.status < 300:
            self.succeeded += 1
        return answer


def query(server: RunningServer, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(server.data_dir / "catalogue.sqlite")) as database:
        return database.execute(sql).fetchall()


def test_operations_equal_the_2xx_answers_of_mutating_requests(
    fresh_server: RunningServer,
) -> None:
    first_start = 2  # the organisation and its admin key
    org = fresh_server.org
    with Counting(fresh_server.api_url, org, fresh_server.admin_key) as rest:
        repo_id = rest.post(f"/{org}/repos", {"name": "app"}, expect=201).json()["id"]
        rest.post(f"/{org}/repos", {"name": "APP"}, expect=409)
        rest.post(f"/{org}/repos", {"name": ".."}, expect=400)
        rest.patch(f"/{org}/app", {"tags": {"a": "b"}}, expect=200)
        rest.patch(f"/{org}/app", {}, expect=200)
        rest.patch(f"/{org}/app", {"default_bookmark": "nope"}, expect=404)
        change = rest.change("app", {"a": b"1"})
        path = f"/{org}/app/changes/{change['id']}"
        rest.patch(path, {"message": "m"}, expect=200)
        rest.patch(path, {"files": [upsert("b", b"")]}, expect=200)
        rest.patch(path, {"files": [upsert("b/c/", b"")]}, expect=400)
        rest.patch(path, {"base_commit_oid": "0" * 40}, expect=409)
        rest.post(f"/{org}/app/changes", {"base_change_id": change["id"]}, expect=201)
        rest.post(f"/{org}/app/changes", {"base_change_id": "k" * 32}, expect=404)
        rest.post(f"/{org}/app/bookmarks", {"name": "b", "change_id": change["id"]}, expect=201)
        rest.post(f"/{org}/app/bookmarks", {"name": "b", "change_id": ROOT}, expect=409)
        rest.post(f"/{org}/app/bookmarks/merge", {"source": "b", "target": "main"}, expect=400)
        key = rest.key(repo_ids=[repo_id])
        rest.patch(f"/{org}/api-keys/{key['id']}", {"tags": {"x": "y"}}, expect=200)
        rest.delete(f"/{org}/api-keys/{key['id']}", expect=200)
        rest.delete(f"/{org}/api-keys/key_nope", expect=404)
        rest.delete(f"/{org}/app", expect=200)
        rest.delete(f"/{org}/app", expect=404)
        succeeded = rest.succeeded

    ((operations,),) = query(fresh_server, "SELECT count(*) FROM operations")
    assert operations - first_start == succeeded
    assert succeeded == 12


def test_operations_carry_who_did_them_and_events_wait_in_the_outbox(
    fresh_server: RunningServer,
) -> None:
    org = fresh_server.org
    with Rest(fresh_server.api_url, org, fresh_server.admin_key) as rest:
        rest.post(f"/{org}/repos", {"name": "app"}, expect=201)
        change = rest.change("app", {"a": b"1"})
        rest.patch(f"/{org}/app/changes/{change['id']}", {"message": "m"}, expect=200)
        key_id = rest.get("/whoami").json()["key_id"]

    rows = query(
        fresh_server,
        "SELECT number, kind, key_id FROM operations WHERE repo_id IS NOT NULL ORDER BY number",
    )
    assert rows == [
        (1, "repo.create", key_id),
        (2, "change.create", key_id),
        (3, "change.amend", key_id),
    ]
    events = query(fresh_server, "SELECT type FROM events WHERE repo_id IS NOT NULL ORDER BY id")
    assert Counter(kind for (kind,) in events) == Counter(
        ["repo.created", "bookmark.created", "change.created", "bookmark.moved", "change.evolved"]
    )
    ((untold,),) = query(
        fresh_server,
        "SELECT count(*) FROM events WHERE id NOT IN (SELECT event_id FROM outbox)",
    )
    assert untold == 0
    evolution = query(fresh_server, "SELECT sequence, operation FROM evolution ORDER BY sequence")
    assert evolution == [(0, 2), (1, 3)]
