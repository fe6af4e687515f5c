"""A conflict as text with markers, and back; and as the tree form that git stores.

Markers exist only in what a person or a program is shown: they are made when a conflicted file is
read and taken apart when it was edited. What an edited text means:

- no marker line is left: the conflict is resolved by that text;
- every block that is left is complete: still a conflict, whose sides are the edited sections with
  the text around them, so no stored side ever holds a marker;
- anything else (a marker was damaged, or the file never had any): resolved by that text exactly as
  it is, because guessing could lose something; the conflict remains in the evolution log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mesafs.git.text_merge import Region, Regions, is_text, merge_text
from mesafs.model.ids import EMPTY_TREE, BlobId, TreeId
from mesafs.model.merge import Conflict, Term, resolved, shown
from mesafs.model.objects import MODE_FILE, MODE_TREE, Commit, TreeEntry
from mesafs.model.paths import RepoPath
from mesafs.store.objects import Draft, Objects
from mesafs.vcs.trees import edit

MARKER_LENGTH = 7
NO_NEWLINE = b" (no terminating newline)"

#: Sections of one block in order: side, base, side, base, …, side.
Sections = list[bytes]

_README = b"""\
This commit was made by mesafs and holds files that could not be merged yet. Plain git cannot show
such a file, so the commit looks odd here: each .jjconflict-side-N directory is the whole tree as one
side has it, each .jjconflict-base-N directory the whole tree they started from. Everything else is
the first side. Open the repository in a mount, or with Jujutsu, to see and resolve the conflicts.
"""


def is_textual(objects: Objects, conflict: Conflict) -> bool:
    """Whether markers can show it: every side that has the path has a text file there."""
    terms = [term for term in (*conflict.adds, *conflict.removes) if term is not None]
    return all(term.is_file for term in terms) and all(
        is_text(objects.blob(BlobId(term.id))) for term in terms
    )


def render(objects: Objects, conflict: Conflict) -> bytes:
    """What is shown at a conflicted path.

    Text gets markers. Anything else (binary content, links) is shown as its first side is: both sides
    stay in the commit.
    """
    if not is_textual(objects, conflict):
        term = shown(conflict)
        return b"" if term is None else objects.blob(BlobId(term.id))
    regions = regions_of(objects, conflict)
    length = _marker_length(objects, conflict)
    total = sum(1 for region in regions if not isinstance(region, bytes))
    parts: list[bytes] = []
    number = 0
    for region in regions:
        if isinstance(region, bytes):
            parts.append(region)
            continue
        number += 1
        parts.append(_block(region, number=number, total=total, length=length))
    return b"".join(parts)


def parse(draft: Draft, text: bytes, conflict: Conflict) -> Conflict:
    """What an edited rendering of ``conflict`` means; the rules are at the top of this module.

    New sides become blobs of ``draft``. A side that did not have the path and is still empty stays
    without it.
    """
    mode = next((term.mode for term in conflict.adds if term is not None), MODE_FILE)
    if not is_textual(draft, conflict):
        return resolved(Term(mode, draft.add_blob(text)))
    sides = len(conflict.adds) + len(conflict.removes)
    found = _take_apart(text, _marker_length(draft, conflict), sides)
    if found is None:
        return resolved(Term(mode, draft.add_blob(text)))
    before = [term for pair in _pairs(conflict) for term in pair]
    terms: list[Term | None] = []
    for was, content in zip(before, found, strict=True):
        if was is None:
            terms.append(Term(mode, draft.add_blob(content)) if content else None)
        else:
            terms.append(Term(was.mode, draft.add_blob(content)))
    edited = Conflict(tuple(terms[0::2]), tuple(terms[1::2])).simplified()
    return edited if len(set(edited.adds)) > 1 else resolved(edited.adds[0])


def regions_of(objects: Objects, conflict: Conflict) -> list[bytes | Sections]:
    """The stretches of a textual conflict: what all agree on, and the sections of each block."""
    texts = [
        b"" if term is None else objects.blob(BlobId(term.id))
        for pair in _pairs(conflict)
        for term in pair
    ]
    if len(texts) != 3:
        return [texts]
    regions: Regions = merge_text(texts[1], texts[0], texts[2])
    out: list[bytes | Sections] = [
        [region.ours, region.base, region.theirs] if isinstance(region, Region) else region
        for region in regions
    ]
    # Sides that merge by line and still are a conflict (one of them lacks the path) are shown whole.
    return out if any(isinstance(region, list) for region in out) else [texts]


def conflict_tree(draft: Draft, content: TreeId, conflicts: Mapping[bytes, Conflict]) -> TreeId:
    """The git tree of a conflicted commit, in Jujutsu's form; the content tree itself if there is none."""
    if not conflicts:
        return content
    sides = side_trees(draft, content, conflicts)
    entries = {entry.name: entry for entry in draft.tree(content)}
    for at, tree in enumerate(sides):
        name = b".jjconflict-%s-%d" % (b"base" if at % 2 else b"side", at // 2)
        entries[name] = TreeEntry(MODE_TREE, name, tree)
        if tree == EMPTY_TREE:
            draft.add_tree(())
    readme = b"JJ-CONFLICT-README"
    entries[readme] = TreeEntry(MODE_FILE, readme, draft.add_blob(_README))
    return draft.add_tree(entries.values())


def conflict_header(sides: Iterable[TreeId]) -> tuple[bytes, bytes]:
    """The commit header by which Jujutsu knows the trees of a conflict: side, base, side, …"""
    return (b"jj:trees", b" ".join(tree.hex().encode() for tree in sides))


def side_trees(draft: Draft, content: TreeId, conflicts: Mapping[bytes, Conflict]) -> list[TreeId]:
    """Whole trees, side, base, side, …: the content tree with each conflicted path as that side has it."""
    widest = max(len(conflict.adds) for conflict in conflicts.values())
    sides: list[TreeId] = []
    for at in range(2 * widest - 1):
        changes: dict[RepoPath, Term | None] = {
            tuple(path.split(b"/")): _padded(conflict, at) for path, conflict in conflicts.items()
        }
        sides.append(edit(draft, content, changes))
    return sides


def jj_commit(draft: Draft, commit: Commit, conflicts: Mapping[bytes, Conflict]) -> Commit:
    """``commit``, whose tree is a content tree, as git must store it."""
    if not conflicts:
        return commit
    return Commit(
        tree=conflict_tree(draft, commit.tree, conflicts),
        parents=commit.parents,
        author=commit.author,
        committer=commit.committer,
        message=commit.message,
        change_id=commit.change_id,
        extra=(*commit.extra, conflict_header(side_trees(draft, commit.tree, conflicts))),
    )


def _padded(conflict: Conflict, at: int) -> Term | None:
    """Term ``at`` of side, base, side, …; a narrower conflict repeats its last side as base and side."""
    terms = [term for pair in _pairs(conflict) for term in pair]
    return terms[at] if at < len(terms) else terms[-1]


def _pairs(conflict: Conflict) -> list[tuple[Term | None, ...]]:
    pairs: list[tuple[Term | None, ...]] = [
        (added, removed) for added, removed in zip(conflict.adds, conflict.removes, strict=False)
    ]
    return [*pairs, (conflict.adds[-1],)]


def _marker_length(objects: Objects, conflict: Conflict) -> int:
    """Longer than any line of the sides that could be taken for a marker."""
    longest = 0
    for term in (*conflict.adds, *conflict.removes):
        if term is not None:
            for run in _MARKER_LIKE.findall(objects.blob(BlobId(term.id))):
                longest = max(longest, len(run))
    return max(MARKER_LENGTH, longest + 1)


_MARKER_LIKE = re.compile(rb"^(<{7,}|>{7,}|\+{7,}|-{7,})", re.MULTILINE)


def _block(sections: Sections, *, number: int, total: int, length: int) -> bytes:
    bases = len(sections) // 2
    lines = [b"<" * length + b" conflict %d of %d\n" % (number, total)]
    for at, section in enumerate(sections):
        if at % 2:
            label = b"base" if bases == 1 else b"base #%d" % (at // 2 + 1)
            head = b"-" * length + b" " + label
        else:
            head = b"+" * length + b" side #%d" % (at // 2 + 1)
        ends = not section or section.endswith(b"\n")
        lines.append(head + (b"" if ends else NO_NEWLINE) + b"\n")
        lines.append(section if ends else section + b"\n")
    lines.append(b">" * length + b" conflict %d of %d ends\n" % (number, total))
    return b"".join(lines)


def _take_apart(text: bytes, length: int, sides: int) -> list[bytes] | None:
    """The whole text of each term, or None unless there are markers and every block is complete."""
    out: list[bytearray] = [bytearray() for _ in range(sides)]
    section: int | None = None
    chomp = False
    blocks = 0
    for line in _lines(text):
        sign = _marker(line, length)
        if sign is None:
            if section is None:
                for whole in out:
                    whole.extend(line)
            elif section < 0:
                return None
            else:
                out[section] += line
            continue
        expected = b"<" if section is None else _expected(section, sides)
        if sign != expected:
            return None
        if section is not None and section >= 0 and chomp and out[section].endswith(b"\n"):
            del out[section][-1:]
        chomp = line.rstrip(b"\r\n").endswith(NO_NEWLINE)
        if sign == b"<":
            section = -1
        elif sign == b">":
            section = None
            blocks += 1
        else:
            assert section is not None, "a section is inside a block"
            section += 1
    if section is not None or blocks == 0:
        return None
    return [bytes(side) for side in out]


def _expected(section: int, sides: int) -> bytes:
    following = section + 1
    if following == sides:
        return b">"
    return b"-" if following % 2 else b"+"


def _lines(text: bytes) -> list[bytes]:
    """Lines by newline only: a lone carriage return is content."""
    return [line for line in re.split(rb"(?<=\n)", text) if line]


_MARKER = re.compile(
    rb"(?:(<+) conflict [0-9]+ of [0-9]+|(>+) conflict [0-9]+ of [0-9]+ ends"
    rb"|(\++) side #[0-9]+%s|(-+) base(?: #[0-9]+)?%s)[ ]*\r?\n?"
    % ((rb"(?: \(no terminating newline\))?",) * 2)
)


def _marker(line: bytes, length: int) -> bytes | None:
    """The sign of a marker line as :func:`render` writes it, else None."""
    match = _MARKER.fullmatch(line)
    if match is None:
        return None
    run = next(group for group in match.groups() if group is not None)
    return run[:1] if len(run) == length else None
