"""The record of mutations: one operation each, with the events that tell of it.

Every function given to ``Catalogue.mutate`` that changes anything calls :func:`record` exactly once.
The exception is a publish that :func:`extend`\\ s the operation of the same checkout's previous one;
it still emits its events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from mesafs.auth.principals import Principal
from mesafs.model.ids import CheckoutId, OrganisationId, PublishId, RepositoryId
from mesafs.store.catalogue import Event, pending_events
from mesafs.store.schema import events as events_table
from mesafs.store.schema import operations, organisations, outbox, publishes, repositories

#: Type and payload of an event.
NewEvent = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class OperationRow:
    number: int
    repository: RepositoryId | None
    kind: str
    at_ns: int
    updated_ns: int
    key_id: str | None
    jti: str | None
    checkout: CheckoutId | None
    before: Any
    after: Any


def record(
    connection: Connection,
    *,
    organisation: OrganisationId,
    repository: RepositoryId | None,
    kind: str,
    principal: Principal | None,
    at_ns: int,
    before: Any = None,
    after: Any = None,
    events: Iterable[NewEvent] = (),
    checkout_id: CheckoutId | None = None,
    publish_id: PublishId | None = None,
    answer: Any = None,
    idempotency_key: str | None = None,
) -> int:
    """Write one operation, its events and their outbox rows; returns the operation's number.

    ``principal`` is None only for what the server does itself, such as its first start.
    """
    number = _next_number(connection, organisation, repository)
    connection.execute(
        operations.insert().values(
            org_id=organisation,
            repo_id=repository,
            number=number,
            kind=kind,
            at_ns=at_ns,
            updated_ns=at_ns,
            key_id=None if principal is None else principal.key_id,
            jti=None if principal is None else principal.jti,
            checkout_id=checkout_id,
            idempotency_key=idempotency_key,
            before=before,
            after=after,
            answer=answer,
        )
    )
    if publish_id is not None:
        assert repository is not None, "a publish has a repository"
        remember_publish(
            connection, repository, publish_id, number, checkout_id, answer, at_ns=at_ns
        )
    emit(connection, organisation, repository, number, events, at_ns=at_ns)
    return number


def extend(
    connection: Connection,
    *,
    organisation: OrganisationId,
    repository: RepositoryId,
    number: int,
    at_ns: int,
    after: Any,
    events: Iterable[NewEvent] = (),
    checkout_id: CheckoutId | None = None,
    publish_id: PublishId | None = None,
    answer: Any = None,
) -> int:
    """Let operation ``number`` end in ``after`` instead; what it began from stays."""
    connection.execute(
        update(operations)
        .where(operations.c.repo_id == repository, operations.c.number == number)
        .values(after=after, updated_ns=at_ns)
    )
    if publish_id is not None:
        remember_publish(
            connection, repository, publish_id, number, checkout_id, answer, at_ns=at_ns
        )
    emit(connection, organisation, repository, number, events, at_ns=at_ns)
    return number


def emit(
    connection: Connection,
    organisation: OrganisationId,
    repository: RepositoryId | None,
    number: int,
    new: Iterable[NewEvent],
    *,
    at_ns: int,
) -> None:
    pending = pending_events(connection)
    for kind, payload in new:
        inserted = connection.execute(
            events_table.insert().values(
                org_id=organisation,
                repo_id=repository,
                operation=number,
                type=kind,
                payload=payload,
                at_ns=at_ns,
            )
        )
        assert inserted.inserted_primary_key is not None, "an insert answers its key"
        event_id = inserted.inserted_primary_key[0]
        connection.execute(outbox.insert().values(event_id=event_id, next_ns=at_ns))
        pending.append(Event(event_id, organisation, repository, number, kind, payload, at_ns))


def remember_publish(
    connection: Connection,
    repository: RepositoryId,
    publish_id: PublishId,
    number: int,
    checkout_id: CheckoutId | None,
    answer: Any,
    *,
    at_ns: int,
) -> None:
    """Keep the first answer to a publish, for the day it is asked for again."""
    connection.execute(
        publishes.insert().values(
            repo_id=repository,
            publish_id=publish_id,
            operation=number,
            checkout_id=checkout_id,
            answer=answer,
            at_ns=at_ns,
        )
    )


def set_publish_answer(
    connection: Connection, repository: RepositoryId, publish_id: PublishId, answer: Any
) -> None:
    """For an answer that holds the operation's number, known only after :func:`record`."""
    connection.execute(
        update(publishes)
        .where(publishes.c.repo_id == repository, publishes.c.publish_id == publish_id)
        .values(answer=answer)
    )


def publish_answer(
    connection: Connection, repository: RepositoryId, publish_id: PublishId
) -> Any | None:
    """The answer that this publish got the first time, or None."""
    return connection.execute(
        select(publishes.c.answer).where(
            publishes.c.repo_id == repository, publishes.c.publish_id == publish_id
        )
    ).scalar_one_or_none()


def latest(connection: Connection, repository: RepositoryId) -> OperationRow | None:
    """The newest operation of a repository."""
    row = connection.execute(
        select(operations)
        .where(operations.c.repo_id == repository)
        .order_by(operations.c.number.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return OperationRow(
        number=row.number,
        repository=repository,
        kind=row.kind,
        at_ns=row.at_ns,
        updated_ns=row.updated_ns,
        key_id=row.key_id,
        jti=row.jti,
        checkout=row.checkout_id,
        before=row.before,
        after=row.after,
    )


def latest_number(connection: Connection, repository: RepositoryId) -> int:
    number = connection.execute(
        select(func.max(operations.c.number)).where(operations.c.repo_id == repository)
    ).scalar_one()
    return number or 0


def count(connection: Connection) -> int:
    """All operations of this server."""
    return connection.execute(select(func.count()).select_from(operations)).scalar_one()


def _next_number(
    connection: Connection, organisation: OrganisationId, repository: RepositoryId | None
) -> int:
    table, key = (
        (organisations, str(organisation))
        if repository is None
        else (repositories, str(repository))
    )
    following = connection.execute(
        update(table)
        .where(table.c.id == key)
        .values(next_operation=table.c.next_operation + 1)
        .returning(table.c.next_operation)
    ).scalar_one()
    return int(following) - 1
