"""A bookmark and its repository in this process: what a checkout's ports need, without a network.

Objects are in a real git repository and merges are the product's own; only the catalogue is missing.
Stricter than a server: it refuses a publish whose objects it lacks, and counts every call.
"""

from __future__ import annotations

import io
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from mesafs.base.errors import Conflict
from mesafs.base.files import Files
from mesafs.git.receiving import receive
from mesafs.git.repository import ObjectStore
from mesafs.model.ids import (
    EMPTY_TREE,
    ROOT_CHANGE,
    ROOT_COMMIT,
    BlobId,
    CommitId,
    RepositoryId,
    TreeId,
)
from mesafs.model.merge import Conflict as ConflictValue
from mesafs.model.merge import shown
from mesafs.model.objects import MODE_TREE, Commit, Signature
from mesafs.store.objects import Draft
from mesafs.vcs.changes import new_change_id
from mesafs.vcs.conflicts import render
from mesafs.vcs.merge import merge
from mesafs.vcs.trees import Delete, Upsert, apply, lookup, term_of
from mesafs.wire.sync import ListedEntry, PublishAnswer, PublishRequest, RepositoryState

_AUTHOR = Signature("test", "test@mesa.invalid", 1_700_000_000)


class MemoryBookmark:
    """One bookmark. Every publish that changes the tree makes a new commit on top."""

    def __init__(self, folder: Path, *, repository: str = "repo_test") -> None:
        self.store = ObjectStore.create(folder / "repository.git", Files())
        self.calls: Counter[str] = Counter()
        self._answers: dict[str, PublishAnswer] = {}
        self._conflicts: dict[bytes, ConflictValue] = {}
        self._past_conflicts: dict[CommitId, dict[bytes, ConflictValue]] = {ROOT_COMMIT: {}}
        self._trees: dict[CommitId, TreeId] = {ROOT_COMMIT: EMPTY_TREE}
        self._seconds = 1_700_000_000
        self.state = RepositoryState(
            RepositoryId(repository), "acme", "app", "main", ROOT_CHANGE, ROOT_COMMIT, EMPTY_TREE,
            self._seconds, 1, "epoch",
        )  # fmt: skip

    # -- the port Objects -------------------------------------------------------------------------

    def trees(
        self, roots: Sequence[TreeId], *, max_bytes: int
    ) -> Iterable[tuple[TreeId, list[ListedEntry]]]:
        self.calls["trees"] += 1
        answer: list[tuple[TreeId, list[ListedEntry]]] = []
        queue = list(roots)
        while queue and len(answer) < len(roots) + max_bytes // 4096:
            tree = queue.pop(0)
            entries = [
                ListedEntry(
                    e.mode, e.id, 0 if e.is_tree else self.store.blob_size(BlobId(e.id)), e.name
                )
                for e in self.store.tree(tree)
            ]
            answer.append((tree, entries))
            queue += [TreeId(entry.id) for entry in entries if entry.mode == MODE_TREE]
        return answer

    def blobs(self, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, int | None, BinaryIO]]:
        self.calls["blobs"] += 1
        for blob in ids:
            content = self.store.blob(blob)
            yield blob, len(content), io.BytesIO(content)

    def conflict_texts(
        self, commit: CommitId, paths: Sequence[bytes]
    ) -> Iterable[tuple[bytes, bytes]]:
        self.calls["conflicts"] += 1
        assert commit == self.state.commit, "only the current commit is kept here"
        return [(path, render(self.store, self._conflicts[path])) for path in paths]

    # -- the port Publisher -----------------------------------------------------------------------

    def upload(self, pack: BinaryIO) -> None:
        self.calls["packs"] += 1
        receive(self.store, iter(lambda: pack.read(1 << 16), b""), Files())

    def publish(self, request: PublishRequest) -> PublishAnswer:
        self.calls["publish"] += 1
        known = self._answers.get(request.publish_id)
        if known is not None:
            return known
        wanted = [request.tree, *([request.base_tree] if request.base_tree else [])]
        missing = self.store.missing([tree for tree in wanted if tree != EMPTY_TREE])
        if missing:
            raise Conflict("objects are missing", code="MISSING_OBJECTS")
        draft = Draft(self.store)
        base = request.base_tree or self._trees[request.base_commit]
        base_conflicts = self._shown(draft, base, self._past_conflicts[request.base_commit])
        sent = self._shown(draft, request.tree, base_conflicts)
        merged = merge(
            draft,
            base,
            self.state.tree,
            request.tree,
            base_conflicts=base_conflicts,
            our_conflicts=self._conflicts,
            their_conflicts={
                path: value for path, value in sent.items() if path not in request.touched_conflicts
            },
        )
        conflicts = dict(merged.conflicts)
        self._commit(draft, merged.tree, conflicts)
        answer = PublishAnswer(request.publish_id, self.state, tuple(sorted(merged.conflicts)))
        self._answers[request.publish_id] = answer
        return answer

    def _shown(
        self, draft: Draft, tree: TreeId, conflicts: dict[bytes, ConflictValue]
    ) -> dict[bytes, ConflictValue]:
        """The conflicts of which ``tree`` holds what is shown of them."""
        return {
            path: value
            for path, value in conflicts.items()
            if term_of(lookup(draft, tree, tuple(path.split(b"/")))) == shown(value)
        }

    # -- what others do meanwhile -------------------------------------------------------------------

    def edit(self, files: dict[bytes, bytes | None]) -> None:
        """Somebody else's change: content by path, None removes."""
        draft = Draft(self.store)
        operations = [
            Delete(tuple(path.split(b"/")))
            if content is None
            else Upsert(tuple(path.split(b"/")), content, None)
            for path, content in files.items()
        ]
        self._commit(draft, apply(draft, self.state.tree, operations), self._conflicts)

    def files(self, tree: TreeId | None = None, prefix: bytes = b"") -> dict[bytes, bytes]:
        """Everything in the bookmark's tree, by path."""
        found: dict[bytes, bytes] = {}
        for entry in self.store.tree(self.state.tree if tree is None else tree):
            if entry.is_tree:
                found |= self.files(TreeId(entry.id), prefix + entry.name + b"/")
            else:
                found[prefix + entry.name] = self.store.blob(BlobId(entry.id))
        return found

    def _commit(self, draft: Draft, tree: TreeId, conflicts: dict[bytes, ConflictValue]) -> None:
        state = self.state
        if tree == state.tree and conflicts == self._conflicts:
            return
        self._seconds += 10
        parents = () if state.commit == ROOT_COMMIT else (state.commit,)
        commit = draft.add_commit(Commit(tree, parents, _AUTHOR, _AUTHOR, f"{self._seconds}"))
        self.store.write(draft)
        self._conflicts = conflicts
        self._past_conflicts[commit] = conflicts
        self._trees[commit] = tree
        change = new_change_id(secrets.token_bytes(16))
        self.state = RepositoryState(
            state.repository, "acme", "app", "main", change, commit, tree, self._seconds,
            state.operation + 1, "epoch", tuple(sorted(conflicts)),
        )  # fmt: skip
