"""Keeps each repository's ``refs/`` equal to the catalogue, for git's own programs.

The catalogue is read and the refs are written under one lock for each repository, so a later state is
never overwritten by an earlier one. Nothing is remembered: writing again is always right.
"""

from __future__ import annotations

import threading
from collections import defaultdict

from mesafs.git.projection import project
from mesafs.model.ids import ROOT_CHANGE, RepositoryId
from mesafs.server.backing import Backing
from mesafs.store import bookmarks, changes, organisations, repositories


class Projection:
    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._locks: defaultdict[RepositoryId, threading.Lock] = defaultdict(threading.Lock)

    def project(self, repository: RepositoryId) -> bool:
        """Write one repository's refs; returns whether they had to be."""
        with self._locks[repository]:
            with self._backing.catalogue.read() as connection:
                row = repositories.by_id(connection, repository)
                if row is None:
                    return False
                named = {
                    bookmark.name: bookmark.change
                    for bookmark in bookmarks.of_repository(connection, repository)
                    if bookmark.change != ROOT_CHANGE
                }
                commits = {
                    change: found.commit
                    for change, found in changes.some(
                        connection, repository, set(named.values())
                    ).items()
                }
            return project(
                self._backing.objects.path(repository),
                self._backing.files,
                {name: commits[change] for name, change in named.items()},
                default=row.default_bookmark,
            )

    def repair(self) -> int:
        """At start: write what a crash between a commit and its projection left out."""
        with self._backing.catalogue.read() as connection:
            living = [
                row.id
                for organisation in organisations.everyone(connection)
                for row in repositories.of_organisation(connection, organisation.id)
            ]
        return sum(self.project(repository) for repository in living)
