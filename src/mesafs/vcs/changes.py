"""Changes: their ids, their commits, and when a write amends one instead of starting another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mesafs.model.ids import (
    EMPTY_TREE,
    ROOT_COMMIT,
    ApiKeyId,
    ChangeId,
    CommitId,
    TreeId,
    change_id_of,
)
from mesafs.model.merge import Conflict
from mesafs.model.objects import Commit, Signature
from mesafs.store.objects import Draft
from mesafs.vcs.conflicts import jj_commit

#: What opened a change that an automatic snapshot may still rewrite.
OURS = frozenset({"mount", "rest"})
#: Two automatic publishes of one checkout closer than this are one operation.
EXTEND_WITHIN_NS = 30_000_000_000

_NOT_IN_A_NAME = re.compile(r"[<>\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ChangeFacts:
    """What decides whether an automatic snapshot may amend a change."""

    origin: str
    closed: bool
    has_children: bool
    parents: int
    bookmarks: int
    signed: bool = False


def may_amend(facts: ChangeFacts) -> bool:
    """Whether a change is *open*: otherwise the first edit opens a child of it.

    So a keystroke never rewrites a pushed or imported commit and never rebases somebody's fork.
    """
    return (
        facts.origin in OURS
        and not facts.closed
        and not facts.has_children
        and not facts.signed
        and facts.parents == 1
        and facts.bookmarks == 1
    )


def new_change_id(entropy: bytes) -> ChangeId:
    """A change id from 16 unpredictable bytes."""
    return change_id_of(entropy)


def automatic_signature(key: ApiKeyId, key_name: str | None, seconds: int) -> Signature:
    """Who an automatic commit is by: the key's name, and an address that cannot be anybody's."""
    name = _NOT_IN_A_NAME.sub("", key_name or "").strip() or "mesa"
    return Signature(name, f"{key}@mesa.invalid", seconds)


def commit_for(
    draft: Draft,
    *,
    tree: TreeId,
    parents: tuple[CommitId, ...],
    change: ChangeId,
    author: Signature,
    committer: Signature,
    message: str,
    conflicts: Mapping[bytes, Conflict] | None = None,
) -> CommitId:
    """Add the git commit of a change whose *content tree* is ``tree``.

    The root commit is virtual: a first change has no parent in git. With conflicts, git's tree is
    Jujutsu's form of them.
    """
    commit = Commit(
        tree=tree,
        parents=tuple(parent for parent in parents if parent != ROOT_COMMIT),
        author=author,
        committer=committer,
        message=message,
        change_id=change,
    )
    if tree == EMPTY_TREE:
        draft.add_tree(())  # git wants the empty tree to be there
    return draft.add_commit(jj_commit(draft, commit, conflicts or {}))
