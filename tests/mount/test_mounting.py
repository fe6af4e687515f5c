from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mesafs.base.errors import Conflict, Invalid
from mesafs.mount.fuse import mounting, privileges
from mesafs.mount.fuse.session import Session, SessionOptions
from support.tiny_filesystem import LOG, Tiny, served

MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:39 / /home/ann\040b/mnt rw,nosuid,nodev shared:7 - fuse.mesa mesa rw,user_id=0
41 22 0:40 / /mnt/back\134slash rw - fuse.sshfs ann@host:/ rw,user_id=0
42 40 0:41 / /home/ann\040b/mnt rw - fuse.mesa second rw,user_id=0
"""


def test_mountinfo_is_read_with_its_escapes(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)

    entries = list(mounting.mounts(tmp_path / "mountinfo"))

    assert [str(entry.target) for entry in entries] == [
        "/",
        "/home/ann b/mnt",
        "/mnt/back\\slash",
        "/home/ann b/mnt",
    ]
    assert [entry.is_ours for entry in entries] == [False, True, False, True]
    assert entries[1].minor == 39
    assert entries[3].source == "second"


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("user_allow_other\n", True),
        ("  user_allow_other  # for mesa\n", True),
        ("#user_allow_other\n", False),
        ("# user_allow_other is off\nmount_max = 10\n", False),
        ("user_allow_others\n", False),
        ("", False),
    ],
)
def test_fuse_conf_allows_others_only_by_the_exact_word(
    tmp_path: Path, text: str, *, allowed: bool
) -> None:
    conf = tmp_path / "fuse.conf"
    conf.write_text(text)

    assert mounting.others_allowed(conf) is allowed


def test_a_missing_fuse_conf_allows_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(mounting.OthersNotAllowed, match="user_allow_other") as caught:
        mounting.check_others_allowed(tmp_path / "fuse.conf")

    assert caught.value.hint == mounting.OTHERS_REMEDY


def test_a_missing_device_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(mounting.NoDevice, match="does not exist") as caught:
        mounting.check_device(tmp_path / "fuse")

    assert "modprobe fuse" in str(caught.value.hint)


def test_a_missing_helper_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(mounting.HelperMissing, match="not installed") as caught:
        mounting.mount_helper(tmp_path, helper="fusermount-of-nobody")

    assert "apt-get install fuse3" in str(caught.value.hint)


# ---- mount points


def test_a_missing_mount_point_is_made(tmp_path: Path) -> None:
    target = mounting.check_mount_point(tmp_path / "deep" / "mnt")

    assert target.is_dir()
    assert list(target.iterdir()) == []


def test_a_link_in_a_parent_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    target = mounting.check_mount_point(tmp_path / "link" / "mnt")

    assert target == tmp_path / "real" / "mnt"


@pytest.mark.parametrize("where", ["/", "/tmp/..", "//"])
def test_the_root_is_no_mount_point(where: str) -> None:
    with pytest.raises(mounting.BadMountPoint, match="the whole machine"):
        mounting.check_mount_point(Path(where))


def test_the_home_directory_is_no_mount_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(mounting.BadMountPoint, match="home directory"):
        mounting.check_mount_point(tmp_path)


def test_a_link_a_file_and_a_full_directory_are_refused_and_left_alone(tmp_path: Path) -> None:
    file, link, full = tmp_path / "file", tmp_path / "link", tmp_path / "full"
    file.write_text("mine")
    link.symlink_to(full)
    full.mkdir()
    (full / "work").write_text("mine")

    for target, reason in ((file, "not a directory"), (link, "symbolic"), (full, "not empty")):
        with pytest.raises(mounting.BadMountPoint, match=reason) as caught:
            mounting.check_mount_point(target)
        assert caught.value.hint
    with pytest.raises(mounting.BadMountPoint, match="not a directory"):
        mounting.check_mount_point(file / "below")

    assert file.read_text() == (full / "work").read_text() == "mine"
    assert link.is_symlink()


@pytest.mark.needs("root")
def test_the_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "mnt"
    target.mkdir()
    target.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != Path("/") and folder != Path("/tmp"):
            folder.chmod(0o755)

    said = _as_nobody(
        "from pathlib import Path\n"
        "from mesafs.mount.fuse import mounting\n"
        f"try: mounting.check_mount_point(Path({str(target)!r}))\n"
        "except mounting.BadMountPoint as error: print(error, '|', error.hint)\n"
    )

    assert "belongs to user 0" in said


@pytest.mark.needs("root")
@pytest.mark.skipif(os.access("/dev/fuse", os.F_OK) is False, reason="no device")
def test_a_device_that_may_not_be_opened_names_the_remedy() -> None:
    if Path("/dev/fuse").stat().st_mode & 0o006 == 0o006:
        pytest.skip("anyone may open the device here")

    said = _as_nobody(
        "from pathlib import Path\n"
        "from mesafs.mount.fuse import mounting\n"
        "try: mounting.mount(Path('/tmp'))\n"
        "except mounting.DeviceDenied as error: print(error, '|', error.hint)\n"
    )

    assert said == ("/dev/fuse may not be opened by user 65534 | as root: `chmod 666 /dev/fuse`\n")


def _as_nobody(program: str) -> str:
    """Run ``program`` as the user with the fewest rights; the modules are loaded as ourselves."""
    program = (
        "import os, sys\n"
        "import mesafs.mount.fuse.mounting\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n" + program
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- on the kernel


@pytest.mark.system
@pytest.mark.needs("fuse", "root")
class TestOnTheKernel:
    def test_a_mount_is_found_and_gone_after_unmount(self, tmp_path: Path) -> None:
        target = tmp_path / "with space"
        target.mkdir()

        with served(target, Tiny({b"a": b"a"})):
            found = mounting.find(target)
            inside = mounting.containing(target / "x" / "y")
            stale = mounting.is_stale(target)
            mounting.unmount(target)
            after = mounting.find(target)

        assert found is not None
        assert found.is_ours
        assert inside == found
        assert not stale
        assert after is None

    def test_mounting_inside_a_mount_of_ours_is_refused(self, tmp_path: Path) -> None:
        with (
            served(tmp_path, Tiny({b"a": b"a"})),
            pytest.raises(mounting.BadMountPoint, match="inside the mount"),
        ):
            mounting.check_mount_point(tmp_path / "inner")

    def test_a_mount_in_use_is_busy_until_it_is_lazy(self, tmp_path: Path) -> None:
        with served(tmp_path, Tiny({b"a": b"a"})), (tmp_path / "a").open() as held:
            with pytest.raises(mounting.Busy, match="in use") as caught:
                mounting.unmount(tmp_path)
            mounting.unmount(tmp_path, lazy=True)

            assert mounting.find(tmp_path) is None
            assert held.read() == "a"

        assert "--force" in str(caught.value.hint)

    def test_what_a_dead_daemon_left_is_cleared(self, tmp_path: Path) -> None:
        os.close(mounting.mount_root(tmp_path))
        with pytest.raises(OSError, match="not connected") as caught:
            tmp_path.stat()

        assert caught.value.errno == errno.ENOTCONN
        assert mounting.is_stale(tmp_path)
        assert mounting.clear_stale(tmp_path)
        assert not mounting.clear_stale(tmp_path)
        assert mounting.find(tmp_path) is None

    def test_what_a_dead_daemon_of_another_left_stays(self, tmp_path: Path) -> None:
        os.close(mounting.mount_root(tmp_path, "other", "other"))
        try:
            assert not mounting.clear_stale(tmp_path)
            entry = mounting.find(tmp_path)
            assert entry is not None
            with pytest.raises(Conflict, match="not a mount of ours"):
                mounting.abort(entry)
            with pytest.raises(mounting.BadMountPoint, match="server is gone"):
                mounting.check_mount_point(tmp_path)
        finally:
            mounting.unmount(tmp_path, lazy=True)

    def test_unmounting_what_is_not_mounted_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(Invalid, match="not a mount point"):
            mounting.unmount(tmp_path)

    def test_the_helper_mounts_and_passes_the_device(self, tmp_path: Path) -> None:
        fd = mounting.mount_helper(tmp_path, "mesa", "mesa")
        session = Session(fd, Tiny({b"a": b"hi"}).table(), options=SessionOptions(), log=LOG)
        thread = threading.Thread(target=session.serve, daemon=True)
        thread.start()
        try:
            assert (tmp_path / "a").read_bytes() == b"hi"
            entry = mounting.find(tmp_path)
            assert entry is not None
            assert entry.filesystem == "fuse.mesa"
            assert not os.get_inheritable(fd)
        finally:
            mounting.unmount(tmp_path, lazy=True)
            thread.join(10)
        assert session.close()

    def test_the_helpers_refusal_is_passed_on(self, tmp_path: Path) -> None:
        with pytest.raises(mounting.MountRefused, match="fusermount3"):
            mounting.mount_helper(tmp_path / "absent")


def test_privileges_are_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nCapEff:\t0000000000200000\n")
    (tmp_path / "uid_map").write_text("         0       1000          1\n")

    assert privileges.is_admin(tmp_path)
    assert not privileges.in_initial_namespace(tmp_path)
    assert not privileges.may_pass_through(tmp_path)
