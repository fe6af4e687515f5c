from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesafs.base.errors import Invalid
from mesafs.mount import state_folder
from mesafs.mount.config import places
from mesafs.mount.state_folder import (
    FolderInUse,
    NotDurable,
    StateFolder,
    UnsafeFolder,
    private_folder,
)


def test_folders_are_made_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = private_folder(tmp_path / "state" / "mesa", "srv", "repo", "checkout")
    finally:
        os.umask(before)

    while made != tmp_path:
        assert made.stat().st_mode & 0o777 == 0o700
        made = made.parent


def test_a_link_in_place_of_a_folder_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mesa").mkdir()
    (tmp_path / "mesa" / "srv").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UnsafeFolder, match="is a link"):
        private_folder(tmp_path / "mesa", "srv", "repo")

    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_open_to_others_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "mesa").mkdir()
    (tmp_path / "mesa").chmod(0o777)

    with pytest.raises(UnsafeFolder, match="open to others") as caught:
        private_folder(tmp_path / "mesa", "srv")

    assert "chmod 700" in str(caught.value.hint)
    assert (tmp_path / "mesa").stat().st_mode & 0o777 == 0o777


@pytest.mark.needs("root")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mesa").mkdir()
    os.chown(tmp_path / "mesa", 65534, 65534)

    with pytest.raises(UnsafeFolder, match="belongs to user 65534"):
        private_folder(tmp_path / "mesa", "srv")


def test_a_folder_that_others_may_enter_is_refused_below_the_base(tmp_path: Path) -> None:
    (tmp_path / "mesa" / "srv").mkdir(parents=True, mode=0o755)
    (tmp_path / "mesa" / "srv").chmod(0o755)

    with pytest.raises(UnsafeFolder, match="open to others"):
        private_folder(tmp_path / "mesa", "srv")


@pytest.mark.parametrize("part", ["..", ".", "", "a/b"])
def test_only_names_make_folders(tmp_path: Path, part: str) -> None:
    with pytest.raises(Invalid, match="not the name"):
        private_folder(tmp_path, part)


def test_a_second_daemon_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    with StateFolder.open(tmp_path, ["s"], ephemeral=True):
        with pytest.raises(FolderInUse, match=f"process {os.getpid()}") as caught:
            StateFolder.open(tmp_path, ["s"], ephemeral=True)
        assert caught.value.hint

    StateFolder.open(tmp_path, ["s"], ephemeral=True).close()


def test_a_deleted_lock_is_noticed(tmp_path: Path) -> None:
    with StateFolder.open(tmp_path, ["s"], ephemeral=True) as folder:
        assert folder.still_held()
        (folder.path / "lock").unlink()
        assert not folder.still_held()


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (private_folder(tmp_path, "s") / "lock").symlink_to(tmp_path / "victim")

    with pytest.raises(UnsafeFolder, match="is a link"):
        StateFolder.open(tmp_path, ["s"], ephemeral=True)

    assert not (tmp_path / "victim").exists()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no file system in memory here")
def test_memory_is_refused_unless_it_is_meant() -> None:
    base = Path(f"/dev/shm/mesa-test-{os.getpid()}")
    base.mkdir(mode=0o700)
    try:
        if not state_folder.is_in_memory(base):
            pytest.skip("/dev/shm is not in memory here")
        with pytest.raises(NotDurable, match="in memory") as caught:
            StateFolder.open(base, ["s"])
        StateFolder.open(base, ["s"], ephemeral=True).close()
        assert "--ephemeral" in str(caught.value.hint)
    finally:
        (base / "s" / "lock").unlink()
        (base / "s").rmdir()
        base.rmdir()


def test_places_follow_the_environment_and_never_tmp(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}

    assert places(home).state == tmp_path / ".local/state/mesa"
    assert places(home).runtime == tmp_path / ".local/state/mesa/run"
    assert places({**home, "XDG_RUNTIME_DIR": str(tmp_path)}).runtime == tmp_path / "mesa"
    assert places({**home, "MESA_RUNTIME_DIR": "/r"}).runtime == Path("/r")
    assert places({**home, "XDG_STATE_HOME": "relative"}).state == tmp_path / ".local/state/mesa"
