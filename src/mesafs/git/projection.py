"""``refs/`` of a repository as git sees it: written from the catalogue, never read back.

All refs are in one ``packed-refs`` file, replaced with one rename, so a reader sees the old set or
the new. Nothing here needs flushing: what a power cut takes is written again at the next start.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from mesafs.base.files import Files
from mesafs.model.ids import CommitId

_HEAD = b"# pack-refs with: peeled fully-peeled sorted \n"


def project(
    repository: Path, files: Files, bookmarks: Mapping[str, CommitId], *, default: str
) -> bool:
    """Make git's refs what the catalogue says; returns whether anything had to be written.

    ``HEAD`` names the default bookmark even while that has no commit yet. The caller holds the
    repository's lock.
    """
    refs = sorted((b"refs/heads/" + name.encode(), commit) for name, commit in bookmarks.items())
    packed = _HEAD + b"".join(b"%s %s\n" % (commit.hex().encode(), name) for name, commit in refs)
    head = b"ref: refs/heads/%s\n" % default.encode()
    written = _replace(repository, files, "packed-refs", packed)
    return _replace(repository, files, "HEAD", head) or written


def _replace(repository: Path, files: Files, name: str, content: bytes) -> bool:
    target = repository / name
    try:
        if target.read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    staged = repository / f"{name}.{secrets.token_hex(4)}.new"
    staged.write_bytes(content)
    files.rename("projection.rename", staged, target)
    return True
