"""What a folder must contain after the calls in a writer's log, and what it does contain.

A tree is a mapping from path to a directory, a link's target, or content and executable bit. A call
without an answer in the log may be wholly in or wholly out, so there may be two admissible trees.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class File:
    content: bytes
    executable: bool = False


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Directory:
    pass


Thing = File | Link | Directory
Tree = dict[str, Thing]


class Refused(Exception):
    """The call fails, as POSIX has it."""


def replay(tree: Tree, log: bytes) -> list[Tree]:
    """The admissible trees after the calls of ``log``, which began on ``tree``. One or two."""
    lines = log.split(b"\n")[:-1]
    tree = dict(tree)
    for call, answer in zip(lines[0::2], lines[1::2], strict=False):
        code = json.loads(answer)
        try:
            after = apply(tree, json.loads(call))
        except Refused as reason:
            assert code is not None, f"{call!r} succeeded although: {reason}"  # noqa: PT017 - the model's
        else:
            assert code is None, f"{call!r} failed: {errno.errorcode[code]}"
            tree = after
    if len(lines) % 2 == 0:
        return [tree]
    try:
        return [tree, apply(tree, json.loads(lines[-1]))]
    except Refused:
        return [tree]


def apply(tree: Tree, call: list[Any]) -> Tree:
    """The tree after a call that succeeds; raises Refused for one that fails."""
    kind, *arguments = call
    if kind in ("open", "sync", "nothing"):
        if kind == "open":
            _file(tree, arguments[0])
        return tree
    done = dict(tree)
    match kind, arguments:
        case ("create", [path]):
            _free(tree, path)
            done[path] = File(b"")
        case ("empty", [path]):
            done[path] = replace(_file(tree, path), content=b"")
        case ("write", [path, offset, data]):
            file, new = _file(tree, path), bytes.fromhex(data)
            if new:
                old = file.content.ljust(offset, b"\0")
                content = old[:offset] + new + old[offset + len(new) :]
                done[path] = replace(file, content=content)
        case ("append", [path, data]):
            file = _file(tree, path)
            done[path] = replace(file, content=file.content + bytes.fromhex(data))
        case ("truncate", [path, size]):
            file = _file(tree, path)
            done[path] = replace(file, content=file.content[:size].ljust(size, b"\0"))
        case ("unlink", [path]):
            if isinstance(_thing(tree, path), Directory):
                raise Refused("a directory")
            del done[path]
        case ("mkdir", [path]):
            _free(tree, path)
            done[path] = Directory()
        case ("rmdir", [path]):
            if not isinstance(_thing(tree, path), Directory) or _below(tree, path):
                raise Refused("not an empty directory")
            del done[path]
        case ("symlink", [path, target]):
            _free(tree, path)
            done[path] = Link(target)
        case ("chmod", [path, mode]):
            thing = _thing(tree, path)
            if isinstance(thing, File):
                done[path] = replace(thing, executable=bool(mode & 0o100))
        case ("rename", [old, new]):
            done = _renamed(tree, old, new)
        case ("exchange", [old, new]):
            done = _exchanged(tree, old, new)
        case _:
            raise AssertionError(f"no call of ours: {call}")
    return done


def _renamed(tree: Tree, old: str, new: str) -> Tree:
    thing = _thing(tree, old)
    _parent(tree, new)
    if old == new:
        return tree
    if new.startswith(old + "/") or old.startswith(new + "/"):
        raise Refused("one inside the other")
    victim = tree.get(new)
    if victim is not None and isinstance(victim, Directory) != isinstance(thing, Directory):
        raise Refused("a directory and something else")
    if victim is not None and _below(tree, new):
        raise Refused("not empty")
    done = {path: what for path, what in tree.items() if path != new}
    return {_moved(path, old, new): what for path, what in done.items()}


def _exchanged(tree: Tree, old: str, new: str) -> Tree:
    _thing(tree, old)
    _thing(tree, new)
    if old == new:
        return tree
    if new.startswith(old + "/") or old.startswith(new + "/"):
        raise Refused("one inside the other")
    return {
        _moved(path, old, new) if _is_at(path, old) else _moved(path, new, old): what
        for path, what in tree.items()
    }


def _is_at(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def _moved(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if _is_at(path, old) else path


def _below(tree: Tree, path: str) -> bool:
    return any(other.startswith(path + "/") for other in tree)


def _parent(tree: Tree, path: str) -> None:
    above = path.rpartition("/")[0]
    if above and not isinstance(tree.get(above), Directory):
        raise Refused("no such directory")


def _thing(tree: Tree, path: str) -> Thing:
    _parent(tree, path)
    if path not in tree:
        raise Refused("nothing there")
    return tree[path]


def _free(tree: Tree, path: str) -> None:
    _parent(tree, path)
    if path in tree:
        raise Refused("something is there")


def _file(tree: Tree, path: str) -> File:
    thing = _thing(tree, path)
    if not isinstance(thing, File):
        raise Refused("not a file")
    return thing


def read_tree(folder: Path) -> Tree:
    """What a folder contains, read by plain calls. A file that cannot be read is an error."""
    found: Tree = {}
    for above, directories, files in os.walk(folder, onerror=_fail):
        for name in directories + files:
            path = Path(above, name)
            place = str(path.relative_to(folder))
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                found[place] = Link(str(path.readlink()))
            elif stat.S_ISDIR(mode):
                found[place] = Directory()
            else:
                found[place] = File(path.read_bytes(), bool(mode & 0o100))
    return found


def _fail(error: OSError) -> None:
    raise error


def difference(expected: Tree, found: Tree) -> list[str]:
    """What is wrong, one line for each path, short enough to read."""
    return [
        f"{path}: expected {_short(expected.get(path))}, found {_short(found.get(path))}"
        for path in sorted(expected.keys() | found.keys())
        if expected.get(path) != found.get(path)
    ]


def _short(thing: Thing | None) -> str:
    if isinstance(thing, File):
        return f"{len(thing.content)} bytes {thing.content[:12].hex()} x={thing.executable:d}"
    return repr(thing)
