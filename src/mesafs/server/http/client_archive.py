"""The client as one file: those modules of this very package that need only the standard library.

A module belongs in it if it lies in one of the client's packages and everything that it imports when
it is loaded belongs in it too or is in the standard library. So a server-only neighbour (the sealing
of keys, git through libgit2) stays out by itself, and nobody keeps a list. The same sources give
the same bytes.
"""

from __future__ import annotations

import ast
import gzip
import io
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final

from mesafs.version import __version__

_PACKAGE: Final = "mesafs"
_CLIENT: Final = ("auth", "base", "checkout", "cli", "git", "model", "mount", "sdk", "wire")

LAUNCHER: Final = b'''"""Starts the mesa command of this folder, whatever the caller's folder and settings hold."""

import os
import sys

# The real path: a process keeps the version it began with when another one is installed.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from mesafs.cli.main import main

sys.exit(main())
'''


@dataclass(frozen=True, slots=True)
class ClientArchive:
    """A gzipped tar of ``launch.py`` and ``mesafs/``, and what a downloader checks it by."""

    version: str
    content: bytes
    sha256: str

    @property
    def size_bytes(self) -> int:
        return len(self.content)


def build(package: Path) -> ClientArchive:
    """The archive of the client's part of the package whose folder is ``package``."""
    members = {"launch.py": LAUNCHER}
    for path in client_modules(package):
        members[f"{_PACKAGE}/{path}"] = (package / path).read_bytes()
    content = _pack(members)
    return ClientArchive(__version__, content, sha256(content).hexdigest())


def client_modules(package: Path) -> list[PurePosixPath]:
    """The files that make the client, relative to ``package``, sorted."""
    sources = {_module(path): path for path in _candidates(package)}
    needs = {
        name: set(_imports(name, (package / path).read_bytes(), sources))
        for name, path in sources.items()
    }
    while unfit := {name for name, wanted in needs.items() if not wanted <= needs.keys()}:
        for name in unfit:
            del needs[name]
    return sorted(sources[name] for name in needs)


def _candidates(package: Path) -> Iterator[PurePosixPath]:
    folders = [package.glob("*.py"), *((package / name).rglob("*.py") for name in _CLIENT)]
    for folder in folders:
        for path in folder:
            yield PurePosixPath(path.relative_to(package))


def _module(path: PurePosixPath) -> str:
    parts = (_PACKAGE, *path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, source: bytes, known: dict[str, PurePosixPath]) -> Iterator[str]:
    """What loading the module loads: its packages and its imports outside of functions."""
    yield from _parents(name)
    for node in _loaded_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [node.module, *(module for module in inner if module in known)]
        else:
            continue
        for target in targets:
            if target.partition(".")[0] not in sys.stdlib_module_names:
                yield target
                yield from _parents(target)


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _loaded_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run on import. Blocks under ``if TYPE_CHECKING`` do not."""
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.ClassDef | ast.Try | ast.With):
            waiting += node.body
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            waiting += [*node.body, *node.orelse]


def _pack(members: dict[str, bytes]) -> bytes:
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(members):
            entry = tarfile.TarInfo(name)  # owner 0, time 0
            entry.size = len(members[name])
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(members[name]))
    return gzip.compress(tarred.getvalue(), compresslevel=9, mtime=0)
