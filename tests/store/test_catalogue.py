"""The catalogue: success is told only after the commit, and one failure is nobody else's."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from mesafs.base.clock import SystemClock
from mesafs.base.errors import Corrupt, Unavailable
from mesafs.base.files import Files
from mesafs.model.ids import OrganisationId
from mesafs.store import operations, organisations, schema
from mesafs.store.catalogue import Catalogue, Event
from mesafs.testing.faults import FaultyFiles

ORG = OrganisationId("01ORG")


def facts(catalogue: Catalogue) -> dict[str, str]:
    with catalogue.read() as connection:
        return {row.key: row.value for row in connection.execute(schema.server.select())}


def open_at(folder: Path, files: Files | None = None) -> Catalogue:
    return Catalogue.open(folder / "catalogue.sqlite", files or Files(), SystemClock())


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    catalogue = open_at(tmp_path)
    yield catalogue
    catalogue.close()


def test_migrations_make_exactly_the_tables_of_the_schema(catalogue: Catalogue) -> None:
    with catalogue.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)

    assert differences == []


def test_the_first_migration_has_operations_evolution_events_and_outbox(
    catalogue: Catalogue,
) -> None:
    assert {"operations", "evolution", "events", "outbox"} <= set(schema.metadata.tables)


def test_every_commit_is_flushed_to_disk(catalogue: Catalogue) -> None:
    with catalogue.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


def test_what_mutate_returned_is_there_after_reopening(tmp_path: Path) -> None:
    catalogue = open_at(tmp_path)
    catalogue.mutate(lambda connection: organisations.set_fact(connection, "a", "1"))
    catalogue.close()

    again = open_at(tmp_path)

    assert facts(again) == {"a": "1"}
    again.close()


def test_a_failed_mutation_leaves_nothing_and_spoils_no_other(catalogue: Catalogue) -> None:
    together = threading.Barrier(9)
    raised: list[BaseException] = []

    def write(number: int) -> None:
        def run(connection: Connection) -> None:
            organisations.set_fact(connection, f"n{number}", "x")
            if number % 2:
                raise LookupError(number)

        together.wait()
        try:
            catalogue.mutate(run)
        except LookupError as error:
            raised.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    together.wait()
    for thread in threads:
        thread.join()

    assert set(facts(catalogue)) == {"n0", "n2", "n4", "n6"}
    assert len(raised) == 4


@pytest.mark.parametrize("action", ["error", "enospc"])
def test_a_failed_commit_is_told_to_everyone_and_leaves_nothing(
    tmp_path: Path, action: str
) -> None:
    catalogue = open_at(tmp_path, FaultyFiles(f"catalogue.commit:1:{action}"))

    with pytest.raises(Unavailable, match="could not be written"):
        catalogue.mutate(lambda connection: organisations.set_fact(connection, "a", "1"))

    assert facts(catalogue) == {}
    catalogue.mutate(lambda connection: organisations.set_fact(connection, "b", "2"))
    assert facts(catalogue) == {"b": "2"}
    catalogue.close()


def test_a_reader_keeps_its_snapshot(catalogue: Catalogue) -> None:
    with catalogue.read() as connection:
        before = organisations.fact(connection, "a")
        catalogue.mutate(lambda writer: organisations.set_fact(writer, "a", "1"))
        after = organisations.fact(connection, "a")

    assert (before, after) == (None, None)
    assert facts(catalogue) == {"a": "1"}


def test_a_closed_catalogue_finishes_what_was_asked_and_refuses_more(tmp_path: Path) -> None:
    catalogue = open_at(tmp_path)
    catalogue.mutate_later(lambda connection: organisations.set_fact(connection, "a", "1"))
    catalogue.close()

    with pytest.raises(Unavailable, match="shutting down"):
        catalogue.mutate(lambda connection: organisations.set_fact(connection, "b", "2"))

    again = open_at(tmp_path)
    assert facts(again) == {"a": "1"}
    again.close()


def test_a_catalogue_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    database = sqlite3.connect(tmp_path / "catalogue.sqlite")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.close()

    with pytest.raises(Corrupt, match="newer version"):
        open_at(tmp_path)


def record(connection: Connection, *events: str) -> int:
    return operations.record(
        connection,
        organisation=ORG,
        repository=None,
        kind="test",
        principal=None,
        at_ns=1,
        events=[(name, {"name": name}) for name in events],
    )


@pytest.fixture
def organisation(catalogue: Catalogue) -> OrganisationId:
    catalogue.mutate(
        lambda connection: organisations.create(
            connection, organisation=ORG, slug="org", created_ns=1
        )
    )
    return ORG


@pytest.mark.usefixtures("organisation")
def test_operations_are_numbered_without_gaps(catalogue: Catalogue) -> None:
    def fail(connection: Connection) -> None:
        record(connection)
        raise LookupError

    first = catalogue.mutate(record)
    with pytest.raises(LookupError):
        catalogue.mutate(fail)
    second = catalogue.mutate(record)

    assert (first, second) == (1, 2)


@pytest.mark.usefixtures("organisation")
def test_listeners_hear_of_committed_events_only_and_in_order(catalogue: Catalogue) -> None:
    heard: list[Event] = []

    def listen(events: Sequence[Event]) -> None:
        heard.extend(events)

    def fail(connection: Connection) -> None:
        record(connection, "lost")
        raise LookupError

    forget = catalogue.subscribe(listen)
    catalogue.mutate(lambda connection: record(connection, "one", "two"))
    with pytest.raises(LookupError):
        catalogue.mutate(fail)
    catalogue.mutate(lambda connection: record(connection, "three"))
    forget()
    catalogue.mutate(lambda connection: record(connection, "unheard"))

    assert [event.type for event in heard] == ["one", "two", "three"]
    assert [event.id for event in heard] == sorted(event.id for event in heard)


@pytest.mark.usefixtures("organisation")
def test_every_event_waits_in_the_outbox(catalogue: Catalogue) -> None:
    catalogue.mutate(lambda connection: record(connection, "one", "two"))

    with catalogue.read() as connection:
        waiting = connection.execute(schema.outbox.select()).all()
    assert [row.state for row in waiting] == ["waiting", "waiting"]
