"""Wires the server: opens what it stands on, gathers the routes, decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anyio import to_thread

from mesafs.base.clock import Clock
from mesafs.base.files import Files
from mesafs.server.backing import Backing
from mesafs.server.config import Settings
from mesafs.server.http import (
    api_keys,
    bookmarks,
    changes,
    content,
    diffs,
    git,
    health,
    install,
    not_implemented,
    organisations,
    repositories,
    sync,
)
from mesafs.server.http.application import Application
from mesafs.server.http.counters import Counters
from mesafs.server.http.routing import Route, Table
from mesafs.server.secret import server_secret
from mesafs.server.services.principals import Principals
from mesafs.server.services.projection import Projection
from mesafs.store.catalogue import Catalogue
from mesafs.store.object_stores import ObjectStores

CATALOGUE_FILE = "catalogue.sqlite"
REPOSITORIES_FOLDER = "repositories"


@contextmanager
def backing(settings: Settings, clock: Clock, files: Files) -> Iterator[Backing]:
    """Everything the server keeps, open for as long as the ``with`` lasts."""
    folder = settings.data_dir
    repositories_folder = folder / REPOSITORIES_FOLDER
    repositories_folder.mkdir(mode=0o700, exist_ok=True)
    secret = server_secret(settings, files)
    catalogue = Catalogue.open(folder / CATALOGUE_FILE, files, clock)
    try:
        objects = ObjectStores(repositories_folder, files)
        objects.clear_staged()
        yield Backing(settings, catalogue, objects, clock, files, secret)
    finally:
        catalogue.close()


def create(opened: Backing) -> Application:
    """The ASGI application over an opened backing."""
    counters = Counters()

    async def closing() -> None:
        await to_thread.run_sync(opened.shutdown.begin)

    return Application(
        Table(all_routes(opened, counters)),
        Principals(opened).principal_for,
        clock=opened.clock,
        counters=counters,
        closing=closing,
    )


def all_routes(opened: Backing, counters: Counters) -> list[Route]:
    principals, projection = Principals(opened), Projection(opened)
    projection.repair()
    return [
        *health.routes(opened, counters),
        *install.routes(opened.settings),
        *organisations.routes(opened),
        *api_keys.routes(opened),
        *repositories.routes(opened, projection),
        *bookmarks.routes(opened, projection),
        *sync.routes(opened, principals, projection),
        *git.routes(opened, principals, projection),
        *changes.routes(opened, projection),
        *content.routes(opened),
        *diffs.routes(opened),
        *not_implemented.routes(),
    ]
