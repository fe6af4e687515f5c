"""The archive holds the client, all of it, and nothing that needs a third party."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

import mesafs
from mesafs.server.http.client_archive import ClientArchive, build, client_modules


def _names(archive: ClientArchive) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        return tar.getnames()


def test_the_same_sources_give_the_same_bytes(archive: ClientArchive) -> None:
    again = build(Path(mesafs.__file__).parent)

    assert again == archive


def test_it_is_small(archive: ClientArchive) -> None:
    assert archive.size_bytes < 1_000_000


def test_it_holds_the_client_and_not_the_server(archive: ClientArchive) -> None:
    names = _names(archive)

    assert {"launch.py", "mesafs/mount/fuse/session.py", "mesafs/git/packs.py"} <= set(names)
    for part in ("server", "store", "vcs", "testing", "sandbox"):
        assert not [name for name in names if name.startswith(f"mesafs/{part}/")]
    for name in ("mesafs/git/repository.py", "mesafs/auth/sealing.py"):
        assert name not in names


def test_a_module_that_needs_a_third_party_stays_out_with_all_that_need_it(tmp_path: Path) -> None:
    package = tmp_path / "mesafs"
    for name, text in {
        "__init__.py": "",
        "git/__init__.py": "",
        "git/pure.py": "import zlib\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pygit2\n",
        "git/bound.py": "import pygit2\n",
        "sdk/__init__.py": "",
        "sdk/late.py": "def f():\n    import httpx\n",
        "sdk/through.py": "try:\n    from mesafs.git import bound\nexcept ImportError:\n    pass\n",
        "sdk/twice.py": "from mesafs.sdk.through import x\n",
        "mount/__init__.py": "from mesafs.git.bound import y\n",
        "mount/inside.py": "",
        "server/__init__.py": "",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)

    modules = {str(path) for path in client_modules(package)}

    assert modules == {
        "__init__.py",
        "git/__init__.py",
        "git/pure.py",
        "sdk/__init__.py",
        "sdk/late.py",
    }


_LOAD_ALL = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
loaded = {name.partition(".")[0] for name in sys.modules} - {"mesafs", "__main__"}
strangers = loaded - sys.stdlib_module_names
assert not strangers, strangers
"""


@pytest.mark.system
def test_every_module_of_it_loads_with_the_system_s_python_alone(
    archive: ClientArchive, tmp_path: Path
) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        for member in tar:  # by hand: the first 3.11 versions know no extraction filter
            target = tmp_path / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None
            target.write_bytes(source.read())
    names = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in _names(archive)
        if name.startswith("mesafs/") and not name.endswith("__main__.py")
    ]

    loaded = subprocess.run(
        ["/usr/bin/python3", "-IS", "-c", _LOAD_ALL, str(tmp_path), *names],
        capture_output=True,
        text=True,
        check=False,
    )

    assert loaded.returncode == 0, loaded.stderr
