"""The difference between two changes of a repository, conflicts apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesafs.auth.principals import Principal
from mesafs.auth.scopes import Scope
from mesafs.model.ids import ChangeId
from mesafs.server.backing import Backing
from mesafs.server.services.repositories import find
from mesafs.server.services.revisions import revision
from mesafs.vcs.diff import ConflictHunk, TreeDiff, conflict_hunks, diff

Which = Literal["include", "only", "exclude"]


@dataclass(frozen=True, slots=True)
class Contested:
    """A path that the head holds in conflict."""

    path: bytes
    hunks: tuple[ConflictHunk, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    tree: TreeDiff
    contested: tuple[Contested, ...]


class Diffs:
    def __init__(self, backing: Backing) -> None:
        self._backing = backing

    def get(
        self,
        principal: Principal,
        repository: str,
        *,
        base: ChangeId,
        head: ChangeId,
        conflicts: Which,
    ) -> Difference:
        """What ``head`` has otherwise than ``base``; a conflicted path is in one of the two lists only."""
        with self._backing.catalogue.read() as connection:
            row = find(connection, principal, Scope.READ, repository)
            old, new = revision(connection, row, base), revision(connection, row, head)
        store = self._backing.objects.open(row.id)
        tree = TreeDiff((), truncated=False)
        if conflicts != "only":
            tree = diff(store, old.tree, new.tree, without=new.conflicts.keys())
        contested: tuple[Contested, ...] = ()
        if conflicts != "exclude":
            contested = tuple(
                Contested(path, conflict_hunks(store, path, conflict))
                for path, conflict in sorted(new.conflicts.items())
            )
        return Difference(tree, contested)
