"""Trees written as a dictionary from path to content, for tests of version control."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mesafs.model.ids import EMPTY_TREE, BlobId, TreeId
from mesafs.model.merge import Term
from mesafs.model.objects import MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK
from mesafs.store.objects import Draft, Objects
from mesafs.vcs.trees import edit, walk

TreeOf = Callable[[Mapping[str, bytes]], TreeId]


class Link(bytes):
    """Content that stands for a symlink's target."""


class Tool(bytes):
    """Content of an executable file."""


def make_tree(draft: Draft, files: Mapping[str, bytes]) -> TreeId:
    """A tree of these files; directories come from the slashes in their paths."""
    modes = {Link: MODE_SYMLINK, Tool: MODE_EXECUTABLE}
    return edit(
        draft,
        EMPTY_TREE,
        {
            tuple(path.encode().split(b"/")): Term(
                modes.get(type(content), MODE_FILE), draft.add_blob(bytes(content))
            )
            for path, content in files.items()
        },
    )


def files_of(objects: Objects, tree: TreeId) -> dict[str, bytes]:
    """The inverse: every file and link with its content."""
    return {
        b"/".join(path).decode(): objects.blob(BlobId(entry.id))
        for path, entry in walk(objects, tree)
        if not entry.is_tree
    }
