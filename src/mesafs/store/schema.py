"""The catalogue's tables: which commit a change is at, which change a bookmark names, and why.

Every mutation leaves one row in ``operations``; ``evolution``, ``events`` and ``outbox`` rows are
written in the same transaction. Times are nanoseconds since the epoch. Object ids are 20 raw bytes,
paths are bytes. ``store/migrations`` is how a database gets these tables; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

metadata = MetaData()

#: Facts of the server itself: ``server_id``, ``epoch`` (new after a restore), ``fencing``.
server = Table(
    "server",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

organisations = Table(
    "organisations",
    metadata,
    Column("id", String, primary_key=True),
    Column("slug", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("next_operation", BigInteger, nullable=False, server_default="1"),
)

#: No text of a key is here, nor anything that could sign: see ``auth.sealing``.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("org_id", String, ForeignKey("organisations.id"), nullable=False, index=True),
    Column("name", String),
    Column("lookup", String, nullable=False, unique=True),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("repository_ids", JSON(none_as_null=True)),
    Column("tags", JSON, nullable=False),
    Column("metadata", JSON(none_as_null=True)),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger),
    Column("revoked_ns", BigInteger),
    Column("last_used_ns", BigInteger),
)

#: ``deleted_ns`` marks a tombstone: the name is free again, the data stays until it is collected.
repositories = Table(
    "repositories",
    metadata,
    Column("id", String, primary_key=True),
    Column("org_id", String, ForeignKey("organisations.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("folded_name", String, nullable=False),
    Column("default_bookmark", String, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("deleted_ns", BigInteger),
    Column("next_operation", BigInteger, nullable=False, server_default="1"),
)
Index(
    "living_repository_name",
    repositories.c.org_id,
    repositories.c.folded_name,
    unique=True,
    sqlite_where=repositories.c.deleted_ns.is_(None),
    postgresql_where=repositories.c.deleted_ns.is_(None),
)

#: Names that a repository has given up. A token that was issued while another repository bore the
#: name it states gets nothing from the name's new bearer.
released_names = Table(
    "released_names",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("org_id", String, ForeignKey("organisations.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("repo_id", String, ForeignKey("repositories.id"), nullable=False),
    Column("released_ns", BigInteger, nullable=False),
    Index("released_name", "org_id", "name", "released_ns"),
)

#: ``tree`` is the content tree; the git tree of ``commit`` is another one when it is conflicted.
#: ``generation`` is one more than the highest of the parents, so that history has a stable order.
changes = Table(
    "changes",
    metadata,
    Column("repo_id", String, ForeignKey("repositories.id"), primary_key=True),
    Column("change_id", String, primary_key=True),
    Column("commit", LargeBinary, nullable=False),
    Column("tree", LargeBinary, nullable=False),
    Column("parents", JSON, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("message", String, nullable=False),
    Column("author", JSON, nullable=False),
    Column("committer", JSON, nullable=False),
    Column("origin", String, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("conflicted", Boolean, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    Index("change_by_commit", "repo_id", "commit"),
)

#: One row for each parent of each change: who has children, without reading every change.
change_parents = Table(
    "change_parents",
    metadata,
    Column("repo_id", String, ForeignKey("repositories.id"), primary_key=True),
    Column("change_id", String, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("parent_id", String, nullable=False),
    Index("change_children", "repo_id", "parent_id"),
)

#: The commits a change has had, oldest first.
evolution = Table(
    "evolution",
    metadata,
    Column("repo_id", String, ForeignKey("repositories.id"), primary_key=True),
    Column("change_id", String, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("commit", LargeBinary, nullable=False),
    Column("tree", LargeBinary, nullable=False),
    Column("operation", BigInteger, nullable=False),
    Column("automatic", Boolean, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Index("evolution_by_commit", "repo_id", "commit"),
)

#: What could not be merged at a path of a commit: the terms of a ``model.merge.Merge``.
conflicts = Table(
    "conflicts",
    metadata,
    Column("repo_id", String, ForeignKey("repositories.id"), primary_key=True),
    Column("commit", LargeBinary, primary_key=True),
    Column("path", LargeBinary, primary_key=True),
    Column("terms", JSON, nullable=False),
)

bookmarks = Table(
    "bookmarks",
    metadata,
    Column("repo_id", String, ForeignKey("repositories.id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("change_id", String, nullable=False),
    Index("bookmark_by_change", "repo_id", "change_id"),
)

#: Numbers rise by one within a repository, or within an organisation where ``repo_id`` is null.
operations = Table(
    "operations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("org_id", String, ForeignKey("organisations.id"), nullable=False),
    Column("repo_id", String, ForeignKey("repositories.id")),
    Column("number", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    Column("key_id", String),
    Column("jti", String),
    Column("checkout_id", String),
    Column("idempotency_key", String),
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    Column("answer", JSON(none_as_null=True)),
    UniqueConstraint("org_id", "repo_id", "number", name="operation_number"),
)
Index(
    "organisation_operation_number",
    operations.c.org_id,
    operations.c.number,
    unique=True,
    sqlite_where=operations.c.repo_id.is_(None),
    postgresql_where=operations.c.repo_id.is_(None),
)

#: The first answer to each publish, given again when the request is repeated. Apart from
#: ``operations``, because several publishes may extend one operation.
publishes = Table(
    "publishes",
    metadata,
    Column("repo_id", String, ForeignKey("repositories.id"), primary_key=True),
    Column("publish_id", String, primary_key=True),
    Column("operation", BigInteger, nullable=False),
    Column("checkout_id", String),
    Column("answer", JSON, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("org_id", String, ForeignKey("organisations.id"), nullable=False),
    Column("repo_id", String, ForeignKey("repositories.id")),
    Column("operation", BigInteger, nullable=False),
    Column("type", String, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Index("event_by_repository", "repo_id", "id"),
    sqlite_autoincrement=True,  # a stream's position must never be given to a second event
)

#: What is still to be told: without a target until the event is spread over the targets.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("event_id", Integer, ForeignKey("events.id"), nullable=False, index=True),
    Column("target_id", String),
    Column("state", String, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_ns", BigInteger, nullable=False),
    Index("outbox_due", "state", "next_ns"),
)

#: Packs on disk; while a lease runs, the objects of a pack are kept although nothing names them.
packs = Table(
    "packs",
    metadata,
    Column("repo_id", String, ForeignKey("repositories.id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("checkout_id", String),
    Column("lease_until_ns", BigInteger),
    Column("created_ns", BigInteger, nullable=False),
)
