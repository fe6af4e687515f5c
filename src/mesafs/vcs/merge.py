"""Three-way merge of trees, by path and then by line. It never picks a winner silently.

Equal subtrees are taken whole. What cannot be merged at a path is a
:data:`~mesafs.model.merge.Conflict`; the *content tree* then holds the first side that has the path.
Nothing either side wrote is lost: it is in the content tree or in a conflict. Where one side has a
directory and the other a file under the same name, the directory keeps the name and the file's
conflict stands beside it as ``name~conflict``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mesafs.git.text_merge import Region, is_text, merge_text
from mesafs.model.ids import EMPTY_TREE, BlobId, TreeId
from mesafs.model.merge import Conflict, Term, combine, resolved, shown
from mesafs.model.objects import MODE_EXECUTABLE, MODE_TREE, TreeEntry
from mesafs.model.paths import MAX_DEPTH, MAX_NAME_BYTES, IllegalName, RepoPath, join
from mesafs.store.objects import Draft
from mesafs.vcs.trees import edit, lookup, term_of

Conflicts = Mapping[bytes, Conflict]
"""Conflicts by slash-separated path."""


@dataclass(frozen=True, slots=True)
class Merged:
    """``tree`` is a content tree; ``conflicts`` are its conflicted paths."""

    tree: TreeId
    conflicts: dict[bytes, Conflict] = field(default_factory=dict)


_NONE: Conflicts = {}


def merge(
    draft: Draft,
    base: TreeId,
    ours: TreeId,
    theirs: TreeId,
    *,
    base_conflicts: Conflicts = _NONE,
    our_conflicts: Conflicts = _NONE,
    their_conflicts: Conflicts = _NONE,
) -> Merged:
    """Merge what ``theirs`` did since ``base`` into ``ours``. New objects go into ``draft``.

    Paths that are in conflict already are merged as the values they are: a side that did not touch
    one keeps it as it stands, and a side that resolved it resolves it here.
    """
    walker = _Walker(draft)
    tree = walker.trees(base, ours, theirs, ())
    conflicts = walker.conflicts
    contested = {*base_conflicts, *our_conflicts, *their_conflicts}
    if not contested:
        return Merged(tree, conflicts)
    changes: dict[RepoPath, Term | None] = {}
    for path in contested:
        parts = tuple(path.split(b"/"))
        values = [
            known.get(path) or resolved(term_of(lookup(draft, side, parts)))
            for known, side in (
                (base_conflicts, base),
                (our_conflicts, ours),
                (their_conflicts, theirs),
            )
        ]
        value = _settle(draft, combine(*values))
        conflicts.pop(path, None)
        there = lookup(draft, tree, parts)
        if there is not None and there.is_tree:
            if shown(value) is None:
                continue
            if value.is_resolved:
                value = Conflict((value.adds[0], None), (None,))
            beside = lookup(draft, tree, parts[:-1])
            assert beside is not None, "the parent of an entry is there"
            parts = (*parts[:-1], _free_name(draft.tree(TreeId(beside.id)), parts[-1]))
        if not value.is_resolved:
            conflicts[join(parts)] = value
        changes[parts] = shown(value)
    return Merged(edit(draft, tree, changes), conflicts)


class _Walker:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.conflicts: dict[bytes, Conflict] = {}

    def trees(self, base: TreeId, ours: TreeId, theirs: TreeId, prefix: RepoPath) -> TreeId:
        if theirs in {ours, base}:
            return ours
        if base == ours:
            return theirs
        if len(prefix) >= MAX_DEPTH:
            raise IllegalName(join(prefix[:8]), f"the path is deeper than {MAX_DEPTH} levels")
        befores, mine, yours = (
            {entry.name: entry for entry in self._draft.tree(tree)} for tree in (base, ours, theirs)
        )
        merged = dict(mine)
        aside: list[tuple[bytes, Conflict]] = []
        for name in {
            name
            for name in befores.keys() | yours.keys()
            if befores.get(name) != yours.get(name) and mine.get(name) != yours.get(name)
        }:
            entry, clash = self._entry(
                name, befores.get(name), mine.get(name), yours.get(name), prefix
            )
            if entry is None:
                merged.pop(name, None)
            else:
                merged[name] = entry
            if clash is not None:
                aside.append((name, clash))
        for name, clash in sorted(aside, key=lambda item: item[0]):
            free = _free_name(merged.values(), name)
            term = shown(clash)
            assert term is not None, "a file that clashes is there"
            merged[free] = TreeEntry(term.mode, free, term.id)
            self.conflicts[join((*prefix, free))] = clash
        return self._draft.add_tree(merged.values()) if merged else EMPTY_TREE

    def _entry(
        self,
        name: bytes,
        base: TreeEntry | None,
        ours: TreeEntry | None,
        theirs: TreeEntry | None,
        prefix: RepoPath,
    ) -> tuple[TreeEntry | None, Conflict | None]:
        """What stands at ``name``, and a file's conflict that must be put aside for a directory."""
        if base == ours:
            return theirs, None
        path = (*prefix, name)
        directory = EMPTY_TREE
        if any(side is not None and side.is_tree for side in (ours, theirs)):
            directory = self.trees(_tree_of(base), _tree_of(ours), _tree_of(theirs), path)
        value = self._file(term_of(base), term_of(ours), term_of(theirs))
        if directory != EMPTY_TREE:
            there = TreeEntry(MODE_TREE, name, directory)
            if value.is_resolved and value.adds[0] is None:
                return there, None
            if value.is_resolved:
                # Clean by itself, yet the name is taken: the other side has no file here.
                value = Conflict((value.adds[0], None), (term_of(base),))
            return there, value
        if not value.is_resolved:
            self.conflicts[join(path)] = value
        term = shown(value)
        return (None if term is None else TreeEntry(term.mode, name, term.id)), None

    def _file(self, base: Term | None, ours: Term | None, theirs: Term | None) -> Conflict:
        return _settle(self._draft, Conflict((ours, theirs), (base,)).simplified())


def _settle(draft: Draft, value: Conflict) -> Conflict:
    """Resolve a conflict if modes and lines allow it."""
    if value.is_resolved or len(set(value.adds)) == 1:
        return resolved(value.adds[0])
    if len(value.adds) != 2:
        return value
    (ours, theirs), base = value.adds, value.removes[0]
    if ours is None or theirs is None or not (ours.is_file and theirs.is_file):
        return value
    if base is not None and not base.is_file:
        base = None
    mode = _merged_mode(base, ours, theirs)
    base_blob = None if base is None else base.id
    if ours.id == theirs.id:
        return resolved(Term(mode, ours.id))
    if base_blob in {ours.id, theirs.id}:
        return resolved(Term(mode, theirs.id if base_blob == ours.id else ours.id))
    contents = [
        b"" if blob is None else draft.blob(BlobId(blob))
        for blob in (base_blob, ours.id, theirs.id)
    ]
    if all(is_text(content) for content in contents):
        regions = merge_text(*contents)
        if not any(isinstance(region, Region) for region in regions):
            whole = b"".join(region for region in regions if isinstance(region, bytes))
            return resolved(Term(mode, draft.add_blob(whole)))
    return Conflict((Term(mode, ours.id), Term(mode, theirs.id)), (base and Term(mode, base.id),))


def _merged_mode(base: Term | None, ours: Term, theirs: Term) -> int:
    """The executable bit merges by itself; where both added the file, executable wins."""
    if ours.mode == theirs.mode:
        return ours.mode
    if base is None:
        return MODE_EXECUTABLE
    return theirs.mode if ours.mode == base.mode else ours.mode


def _tree_of(entry: TreeEntry | None) -> TreeId:
    return TreeId(entry.id) if entry is not None and entry.is_tree else EMPTY_TREE


def _free_name(taken: Iterable[TreeEntry], name: bytes) -> bytes:
    names = {entry.name for entry in taken}
    number = 1
    while True:
        suffix = b"~conflict" if number == 1 else b"~conflict%d" % number
        free = name[: MAX_NAME_BYTES - len(suffix)] + suffix
        if free not in names:
            return free
        number += 1
