"""What a data folder needs once: a server id, an organisation and its admin key.

Repeatable: a first start that was cut off is completed by the next one. The admin key's text is in
the answer of the start that made it, and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from mesafs.base.errors import Invalid
from mesafs.base.files import Files
from mesafs.model.ids import OrganisationId, ulid
from mesafs.server.backing import Backing
from mesafs.server.config import DEFAULT_ORGANISATION, check_organisation_slug
from mesafs.server.services.keys import new_key, store_key
from mesafs.store import operations, organisations

ADMIN_SCOPES = ("read", "write", "admin")


class OtherOrganisation(Invalid):
    def __init__(self, wanted: str, there: str, folder: Path) -> None:
        super().__init__(
            f"the data folder {folder} belongs to the organisation {there!r}, not {wanted!r}",
            hint=f"start with --org {there}, or with another --data-dir",
        )


def prepare(backing: Backing) -> tuple[str, str | None]:
    """The organisation's slug, and its admin key if this start made it."""
    wanted = backing.settings.organisation
    with backing.catalogue.read() as connection:
        there = organisations.everyone(connection)
    if there:
        slug = there[0].slug
        if wanted is not None and wanted not in {row.slug for row in there}:
            raise OtherOrganisation(wanted, slug, backing.settings.data_dir)
        return wanted or slug, None
    slug = check_organisation_slug(wanted or DEFAULT_ORGANISATION)
    return slug, _create(backing, slug)


def _create(backing: Backing, slug: str) -> str:
    now_ns = backing.clock.now_ns()
    organisation = OrganisationId(ulid(now_ns, backing.entropy(10)))
    row, made, digest = new_key(backing, organisation, name="admin", scope_names=ADMIN_SCOPES)
    if backing.settings.admin_key_file is not None:
        # Before the key is in the catalogue: a crash in between leaves a file to be replaced, not a
        # key that nobody has.
        write_admin_key(backing.settings.admin_key_file, made.text, backing.files)

    def create(connection: Connection) -> None:
        for fact in ("server_id", "epoch"):
            organisations.set_fact(connection, fact, ulid(now_ns, backing.entropy(10)))
        organisations.create(connection, organisation=organisation, slug=slug, created_ns=now_ns)
        operations.record(
            connection,
            organisation=organisation,
            repository=None,
            kind="org.create",
            principal=None,
            at_ns=now_ns,
            after={"slug": slug},
        )
        store_key(connection, row, digest, principal=None)

    backing.catalogue.mutate(create)
    return made.text


def write_admin_key(path: Path, text: str, files: Files) -> None:
    staged = path.with_name(path.name + ".new")
    try:
        files.write("admin_key.stage", staged, text.encode() + b"\n", mode=0o600)
        files.publish("admin_key.publish", staged, path)
    except OSError as error:
        raise Invalid(
            f"the admin key cannot be written to {path}: {error.strerror}",
            hint="give --admin-key-file a path in a folder that you may write",
        ) from error
