"""Rows of organisations and the facts of the server itself."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from mesafs.model.ids import OrganisationId
from mesafs.store.schema import organisations, server


@dataclass(frozen=True, slots=True)
class OrganisationRow:
    id: OrganisationId
    slug: str
    name: str
    created_ns: int


def create(
    connection: Connection, *, organisation: OrganisationId, slug: str, created_ns: int
) -> None:
    connection.execute(
        organisations.insert().values(id=organisation, slug=slug, name=slug, created_ns=created_ns)
    )


def by_slug(connection: Connection, slug: str) -> OrganisationRow | None:
    return _one(connection, organisations.c.slug == slug)


def by_id(connection: Connection, organisation: OrganisationId) -> OrganisationRow | None:
    return _one(connection, organisations.c.id == organisation)


def everyone(connection: Connection) -> list[OrganisationRow]:
    return [
        OrganisationRow(OrganisationId(row.id), row.slug, row.name, row.created_ns)
        for row in connection.execute(select(organisations).order_by(organisations.c.id))
    ]


def fact(connection: Connection, key: str) -> str | None:
    """A fact of the server, such as ``server_id`` or ``epoch``."""
    return connection.execute(
        select(server.c.value).where(server.c.key == key)
    ).scalar_one_or_none()


def set_fact(connection: Connection, key: str, value: str) -> None:
    connection.execute(
        insert(server)
        .values(key=key, value=value)
        .on_conflict_do_update(index_elements=[server.c.key], set_={"value": value})
    )


def _one(connection: Connection, condition: object) -> OrganisationRow | None:
    row = connection.execute(select(organisations).where(condition)).one_or_none()  # type: ignore[arg-type] # a column expression
    if row is None:
        return None
    return OrganisationRow(OrganisationId(row.id), row.slug, row.name, row.created_ns)
