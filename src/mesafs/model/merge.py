"""A value that may be in conflict: alternating additions and removals, as Jujutsu has it.

``adds[0] - removes[0] + adds[1] - …``: one addition and no removal is a plain value. A three-way
merge of base, ours and theirs is ``ours - base + theirs``. Invariant: there is one addition more
than there are removals. Absence is a value too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mesafs.model.objects import MODE_EXECUTABLE, MODE_FILE

T = TypeVar("T")


@dataclass(frozen=True)  # no slots: on 3.11 an alias such as Conflict could then not be called
class Merge(Generic[T]):
    adds: tuple[T, ...]
    removes: tuple[T, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.adds) == len(self.removes) + 1, "one addition more than removals"

    @property
    def is_resolved(self) -> bool:
        return not self.removes

    def simplified(self) -> Merge[T]:
        """Without the pairs that cancel each other."""
        adds, removes = list(self.adds), list(self.removes)
        for removed in self.removes:
            # The first side is what a mount shows, so it is the last to go.
            at = _last_index(adds, removed)
            if at is not None:
                del adds[at]
                removes.remove(removed)
        return Merge(tuple(adds), tuple(removes))


@dataclass(frozen=True, slots=True)
class Term:
    """What stands at a path on one side: a mode and the id of a blob (or of a foreign commit)."""

    mode: int
    id: bytes

    @property
    def is_file(self) -> bool:
        return self.mode in {MODE_FILE, MODE_EXECUTABLE}


Conflict = Merge[Term | None]
"""What could not be merged at one path; None is a side that does not have it."""


def resolved(term: Term | None) -> Conflict:
    return Conflict((term,))


def combine(base: Conflict, ours: Conflict, theirs: Conflict) -> Conflict:
    """The three-way merge of values that may be in conflict themselves."""
    return Conflict(
        (*ours.adds, *base.removes, *theirs.adds), (*ours.removes, *base.adds, *theirs.removes)
    ).simplified()


def shown(conflict: Conflict) -> Term | None:
    """What stands at a conflicted path in a content tree: the first side that has it."""
    return next((term for term in conflict.adds if term is not None), None)


def terms_to_json(conflict: Conflict) -> list[list[object] | None]:
    """Addition, removal, addition, …: how a conflict is kept in the catalogue."""
    return [
        None if term is None else [f"{term.mode:06o}", term.id.hex()]
        for term in interleaved(conflict)
    ]


def terms_from_json(data: Iterable[list[str] | None]) -> Conflict:
    terms = [
        None if item is None else Term(int(item[0], 8), bytes.fromhex(item[1])) for item in data
    ]
    return Conflict(tuple(terms[0::2]), tuple(terms[1::2]))


def interleaved(merge: Merge[T]) -> list[T]:
    out: list[T] = []
    for at, added in enumerate(merge.adds):
        out.append(added)
        if at < len(merge.removes):
            out.append(merge.removes[at])
    return out


def _last_index(values: list[T], wanted: T) -> int | None:
    for at in range(len(values) - 1, -1, -1):
        if values[at] == wanted:
            return at
    return None
