"""What to fetch along with what is wanted.

A single miss asks for one object. Misses that follow each other within a quarter of a second are a
walk: then what a walk comes to next comes along, as far as it is small and its names are known.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesafs.base.clock import Clock
from mesafs.checkout.nodes import Node
from mesafs.checkout.object_cache import ObjectCache
from mesafs.model.ids import BlobId, TreeId

_WALK_SECONDS = 0.25
_MOST_OBJECTS = 256
_MOST_BYTES = 1 << 20
_LARGEST_BYTES = 64 << 10
_DIRECTORIES_AHEAD = 32


class Prefetch:
    """Remembers when the last misses were. Guarded by the checkout's lock."""

    def __init__(self, cache: ObjectCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._file_at = self._tree_at = float("-inf")

    def files(self, node: Node, blob: BlobId) -> list[BlobId]:
        """The wanted blob of a file, first, and those to fetch with it."""
        now = self._clock.monotonic()
        walking, self._file_at = now - self._file_at < _WALK_SECONDS, now
        if node.parent is None or not walking:
            return [blob]
        wanted = {blob: None}
        total = 0
        for candidate in _next_files(node.parent):
            if len(wanted) > _MOST_OBJECTS or total > _MOST_BYTES:
                break
            oid = candidate.view or candidate.oid
            if (
                candidate.is_file
                and not candidate.materialised
                and candidate.size <= _LARGEST_BYTES
                and oid is not None
                and not self._cache.has_blob(BlobId(oid))
            ):
                wanted[BlobId(oid)] = None
                total += candidate.size
        return list(wanted)

    def trees(self, node: Node, tree: TreeId) -> list[TreeId]:
        """The wanted tree of a directory, first, and those of its siblings that are not here."""
        now = self._clock.monotonic()
        walking, self._tree_at = now - self._tree_at < _WALK_SECONDS, now
        if not walking or node.parent is None or node.parent.children is None:
            return [tree]
        wanted = {tree: None}
        for sibling in node.parent.children.values():
            if len(wanted) > _MOST_OBJECTS:
                break
            if sibling.is_directory and sibling.children is None and sibling.oid is not None:
                found = TreeId(sibling.oid)
                if not self._cache.has_tree(found):
                    wanted[found] = None
        return list(wanted)


def _next_files(parent: Node) -> Iterator[Node]:
    """A directory's nodes, whatever order a tool sorts them in, then those of the next directories."""
    yield from list((parent.children or {}).values())
    above = parent.parent
    if above is not None and above.children is not None:
        siblings = list(above.children.values())
        for sibling in siblings[siblings.index(parent) + 1 :][:_DIRECTORIES_AHEAD]:
            yield from (sibling.children or {}).values()
