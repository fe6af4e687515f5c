"""Reading, editing and comparing trees. Equal subtrees are never opened.

Every walk keeps to ``model.paths.MAX_DEPTH`` levels, so that a hostile tree of a hundred thousand
levels is refused with a flat stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from mesafs.base.errors import Invalid
from mesafs.git.receiving import check_symlink_target
from mesafs.model.ids import EMPTY_TREE, BlobId, TreeId
from mesafs.model.merge import Term
from mesafs.model.objects import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SYMLINK,
    MODE_TREE,
    TreeEntry,
)
from mesafs.model.paths import MAX_DEPTH, IllegalName, RepoPath, join, to_text
from mesafs.store.objects import Draft, Objects


class BadFileOperation(Invalid):
    """A list of file operations that contradicts itself or the tree; it names the path."""

    default_code: ClassVar[str | None] = "INVALID_FILE_OPERATION"

    def __init__(self, path: RepoPath, why: str) -> None:
        super().__init__(f"{to_text(join(path))!r}: {why}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Upsert:
    """Write a file. Without a mode an existing file keeps its own; a new one is a plain file."""

    path: RepoPath
    content: bytes
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a file; it must be there."""

    path: RepoPath


FileOperation = Upsert | Delete


def lookup(objects: Objects, tree: TreeId, path: RepoPath) -> TreeEntry | None:
    """The entry at ``path``, or None. The root has no entry of its own: it answers as a tree."""
    entry = TreeEntry(MODE_TREE, b"", tree)
    for name in path:
        if not entry.is_tree:
            return None
        found = next((each for each in objects.tree(TreeId(entry.id)) if each.name == name), None)
        if found is None:
            return None
        entry = found
    return entry


def walk(
    objects: Objects, tree: TreeId, depth: int = MAX_DEPTH, *, prefix: RepoPath = ()
) -> Iterator[tuple[RepoPath, TreeEntry]]:
    """Every entry down to ``depth`` levels, each directory before what is in it, in git's order."""
    if depth <= 0:
        return
    _check_depth(prefix)
    for entry in objects.tree(tree):
        path = (*prefix, entry.name)
        yield path, entry
        if entry.is_tree and depth > 1:
            yield from walk(objects, TreeId(entry.id), depth - 1, prefix=path)


def changed_paths(
    objects: Objects, old: TreeId, new: TreeId, *, prefix: RepoPath = ()
) -> Iterator[tuple[RepoPath, TreeEntry | None, TreeEntry | None]]:
    """Files, links and submodules that differ, with the entry on each side; directories are not named."""
    if old == new:
        return
    _check_depth(prefix)
    # Most names of a large directory are equal: one pass leaves only the others.
    olds = {entry.name: entry for entry in objects.tree(old)}
    news: dict[bytes, TreeEntry] = {}
    for entry in objects.tree(new):
        there = olds.get(entry.name)
        if there is not None and there.id == entry.id and there.mode == entry.mode:
            del olds[entry.name]
        else:
            news[entry.name] = entry
    for name in sorted(olds.keys() | news.keys()):
        was, now = olds.get(name), news.get(name)
        path = (*prefix, name)
        was_tree = TreeId(was.id) if was is not None and was.is_tree else EMPTY_TREE
        now_tree = TreeId(now.id) if now is not None and now.is_tree else EMPTY_TREE
        was_file = was if was is not None and not was.is_tree else None
        now_file = now if now is not None and not now.is_tree else None
        if was_file is not None or now_file is not None:
            yield path, was_file, now_file
        yield from changed_paths(objects, was_tree, now_tree, prefix=path)


def edit(draft: Draft, tree: TreeId, changes: Mapping[RepoPath, Term | None]) -> TreeId:
    """Set or remove what stands at these paths. A directory that becomes empty disappears.

    Setting a path replaces whatever was there, a directory too, and directories on the way are made.
    """
    if not changes:
        return tree
    here: dict[bytes, Term | None] = {}
    below: dict[bytes, dict[RepoPath, Term | None]] = {}
    for path, term in changes.items():
        if len(path) == 1:
            here[path[0]] = term
        else:
            below.setdefault(path[0], {})[path[1:]] = term
    entries = {entry.name: entry for entry in draft.tree(tree)}
    for name, term in here.items():
        if term is None:
            entries.pop(name, None)
        else:
            entries[name] = TreeEntry(term.mode, name, term.id)
    for name, inner in below.items():
        there = entries.get(name)
        if there is not None and not there.is_tree and not any(inner.values()):
            continue  # removals below what is not a directory: nothing is there
        subtree = TreeId(there.id) if there is not None and there.is_tree else EMPTY_TREE
        new = edit(draft, subtree, inner)
        if new == EMPTY_TREE:
            entries.pop(name, None)
        else:
            entries[name] = TreeEntry(MODE_TREE, name, new)
    return draft.add_tree(entries.values())


def apply(draft: Draft, tree: TreeId, operations: Iterable[FileOperation]) -> TreeId:
    """Carry out file operations all at once; their order does not matter.

    Refused, naming the path: two operations on one path; a file both at a path and below it; removing
    what is not a file there; writing where a directory stands, or below a file that stays.
    """
    changes: dict[RepoPath, Term | None] = {}
    for operation in operations:
        path = operation.path
        if not path:
            raise BadFileOperation(path, "the root is not a file")
        if path in changes:
            raise BadFileOperation(path, "it is named twice")
        there = lookup(draft, tree, path)
        if isinstance(operation, Delete):
            if there is None:
                raise BadFileOperation(path, "there is no such file to delete")
            if there.is_tree:
                raise BadFileOperation(path, "it is a directory; delete its files")
            changes[path] = None
            continue
        mode = operation.mode or (there.mode if there is not None else MODE_FILE)
        if mode == MODE_SYMLINK:
            check_symlink_target(operation.content)
        elif mode not in {MODE_FILE, MODE_EXECUTABLE, MODE_TREE}:
            raise BadFileOperation(path, f"a file cannot have the mode {mode:o}")
        changes[path] = Term(
            MODE_FILE if mode == MODE_TREE else mode, draft.add_blob(operation.content)
        )
    _check_together(draft, tree, changes)
    return edit(draft, tree, changes)


def _check_together(draft: Draft, tree: TreeId, changes: dict[RepoPath, Term | None]) -> None:
    removed = {path for path, term in changes.items() if term is None}
    for path, term in changes.items():
        if term is None:
            continue
        for length in range(1, len(path)):
            above = path[:length]
            if changes.get(above) is not None:
                raise BadFileOperation(above, f"it cannot be a file and hold {to_text(path[-1])!r}")
            there = lookup(draft, tree, above)
            if there is not None and not there.is_tree and above not in removed:
                raise BadFileOperation(path, f"{to_text(join(above))!r} is a file")
        there = lookup(draft, tree, path)
        if there is not None and there.is_tree:
            staying = any(
                (*path, *inner) not in removed
                for inner, entry in walk(draft, TreeId(there.id))
                if not entry.is_tree
            )
            if staying:
                raise BadFileOperation(path, "it is a directory")


def blob_of(entry: TreeEntry) -> BlobId:
    assert not entry.is_tree, "a directory has no blob"
    return BlobId(entry.id)


def term_of(entry: TreeEntry | None) -> Term | None:
    """An entry without its name; a directory is no file, so it is None."""
    return None if entry is None or entry.is_tree else Term(entry.mode, entry.id)


def _check_depth(prefix: RepoPath) -> None:
    if len(prefix) >= MAX_DEPTH:
        raise IllegalName(join(prefix[:8]) + b"/...", f"the path is deeper than {MAX_DEPTH} levels")
