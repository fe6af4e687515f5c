"""The SQL catalogue: the one truth about repositories, and the only way to write it.

``mutate(fn)`` runs ``fn`` on the writer thread inside a savepoint. Callers that come at the same time
share one transaction and one flush to disk; each wakes only after COMMIT has returned, so whatever
``mutate`` returned survives a power cut. A function that fails takes back its own savepoint and
nobody else's. ``fn`` does SQL and nothing else, and may be run again.

``read()`` gives a snapshot that no writer disturbs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from mesafs.base.clock import Clock
from mesafs.base.errors import Corrupt, Exhausted, MesaError, Unavailable
from mesafs.base.files import Files

T = TypeVar("T")

#: Most mutations that share one commit: bounds how long the first of them waits.
MAX_BATCH = 64
READERS = 48
_PENDING = "mesa.pending_events"


@dataclass(frozen=True, slots=True)
class Event:
    """A row of ``events`` that has become visible."""

    id: int
    organisation: str
    repository: str | None
    operation: int
    type: str
    payload: dict[str, Any]
    at_ns: int


Listener = Callable[[Sequence[Event]], None]


class CatalogueClosed(Unavailable):
    def __init__(self) -> None:
        super().__init__("the server is shutting down", hint="try again when it is back")


class CatalogueFailed(Unavailable):
    """The database refused; what was asked has not happened."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(
            f"the catalogue could not be written: {_reason(cause)}",
            hint="look at the server's disk and its log",
        )


class CatalogueFull(Exhausted):
    def __init__(self) -> None:
        super().__init__("the server's disk is full", hint="free space on the server's data folder")


class NewerCatalogue(Corrupt):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was written by a newer version of this server",
            hint="start the newer version, or restore a backup made by this one",
        )


@dataclass(slots=True)
class _Request:
    run: Callable[[Connection], Any]
    outcome: Future[Any] = field(default_factory=Future)


class Catalogue:
    """An open catalogue. Close it to flush and release the database."""

    def __init__(self, engine: Engine, *, files: Files, clock: Clock) -> None:
        self._engine = engine
        self._files = files
        self.clock = clock
        self._requests: queue.Queue[_Request | None] = queue.Queue()
        self._listeners: list[Listener] = []
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="catalogue-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path, files: Files, clock: Clock) -> Catalogue:
        """Open the SQLite catalogue at ``path``, made if it is missing, and bring it up to date."""
        created = not path.exists()
        engine = _engine(path)
        try:
            _migrate(engine, path)
        except BaseException:
            engine.dispose()
            raise
        if created:
            files.sync_directory("catalogue.create", path.parent)
        return cls(engine, files=files, clock=clock)

    def mutate(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` in a transaction and return its result once that is durable."""
        assert threading.current_thread() is not self._writer, "a mutation cannot contain another"
        request = _Request(fn)
        with self._closing:
            if self._closed:
                raise CatalogueClosed
            self._requests.put(request)
        result: T = request.outcome.result()
        return result

    def mutate_later(self, fn: Callable[[Connection], None]) -> None:
        """Run ``fn`` soon, for notes that nobody waits for and that a crash may lose."""
        with self._closing:
            if not self._closed:
                self._requests.put(_Request(fn))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection on one snapshot, for reading only."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with the events of each commit, in order; returns what ends that.

        It runs on the writer thread: it must hand the events on and return at once.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def close(self) -> None:
        """Finish what was asked before, then close. Later mutations are refused."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._requests.put(None)
        self._writer.join()
        self._engine.dispose()

    # The writer thread.

    def _write(self) -> None:
        with self._engine.connect() as connection:
            closing = False
            while not closing:
                batch: list[_Request] = []
                first = self._requests.get()
                if first is None:
                    return
                batch.append(first)
                while len(batch) < MAX_BATCH:
                    try:
                        more = self._requests.get_nowait()
                    except queue.Empty:
                        break
                    if more is None:
                        closing = True
                        break
                    batch.append(more)
                self._commit(connection, batch)

    def _commit(self, connection: Connection, batch: list[_Request]) -> None:
        """Run a batch in one transaction. Nobody is told of success before COMMIT has returned."""
        pending: list[Event] = []
        connection.info[_PENDING] = pending
        outcomes: list[tuple[_Request, Any, BaseException | None]] = []
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            outcomes = [(request, *self._attempt(connection, request)) for request in batch]
            self._files.reached("catalogue.commit")
            connection.exec_driver_sql("COMMIT")
        except BaseException as error:  # noqa: BLE001 - every waiter must be told, whatever it was
            self._abandon(connection)
            failure = _translate(error)
            for request in batch:
                request.outcome.set_exception(failure)
            return
        finally:
            connection.info.pop(_PENDING, None)
        self._announce(pending)
        for request, result, raised in outcomes:
            if raised is None:
                request.outcome.set_result(result)
            else:
                request.outcome.set_exception(raised)

    def _attempt(
        self, connection: Connection, request: _Request
    ) -> tuple[Any, BaseException | None]:
        pending: list[Event] = connection.info[_PENDING]
        mark = len(pending)
        connection.exec_driver_sql("SAVEPOINT mutation")
        try:
            result = request.run(connection)
        except BaseException as error:
            if isinstance(error, OperationalError):
                raise  # the disk, not the request: nothing of this batch can be trusted
            connection.exec_driver_sql("ROLLBACK TO mutation")
            connection.exec_driver_sql("RELEASE mutation")
            del pending[mark:]
            return None, error
        connection.exec_driver_sql("RELEASE mutation")
        return result, None

    def _abandon(self, connection: Connection) -> None:
        try:
            connection.exec_driver_sql("ROLLBACK")
        except DBAPIError:
            # SQLite has rolled back already, as it does when the disk is full.
            return

    def _announce(self, events: Sequence[Event]) -> None:
        if not events:
            return
        for listener in tuple(self._listeners):
            listener(events)


def pending_events(connection: Connection) -> list[Event]:
    """Where ``store.operations`` leaves the events of a mutation until they are committed."""
    pending: list[Event] = connection.info[_PENDING]
    return pending


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}", pool_size=READERS, max_overflow=READERS, pool_timeout=30
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # Transactions are begun by us: the driver's own habits would split migrations.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "busy_timeout=10000",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _migrate(engine: Engine, path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", "mesafs.store:migrations")
    config.set_main_option("path_separator", "os")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.exec_driver_sql("COMMIT")
    except DBAPIError as error:
        raise _translate(error) from error
    except CommandError as error:
        raise NewerCatalogue(path) from error


def _translate(error: BaseException) -> BaseException:
    if isinstance(error, MesaError):
        return error
    if isinstance(error, DBAPIError | OSError):
        return CatalogueFull() if "full" in str(error).lower() else CatalogueFailed(error)
    return error


def _reason(error: BaseException) -> str:
    # Without the statement and its parameters, which hold other people's data.
    return str(error.orig) if isinstance(error, DBAPIError) else str(error)
