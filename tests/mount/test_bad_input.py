"""What a user can get wrong before there is a mount: the remedy is named, nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mesafs.mount.fuse import mounting
from support.mounts import Administrator, Mounted, Ran, names
from support.ports import free_port

pytestmark = [pytest.mark.system, pytest.mark.needs("fuse")]

MakeMount = Callable[..., Mounted]

USAGE, DENIED, NOT_FOUND, LATER = 2, 4, 1, 75


@pytest.fixture
def user(admin: Administrator, new_mount: MakeMount) -> Mounted:
    """Who has everything right so far, and has not mounted."""
    return new_mount(admin.repository({"file": b"content\n"}))


def assert_refused(user: Mounted, ran: Ran, status: int, *words: str) -> None:
    assert ran.status == status, (ran.out, ran.err)
    for word in words:
        assert word in ran.err
    assert user.credential not in ran.err + ran.out + user.log
    assert "Traceback" not in ran.err + user.log
    assert not user.is_mounted
    assert user.daemons() == []


def test_a_key_that_nobody_made_is_refused(user: Mounted) -> None:
    key = "mesa_live_" + "0" * 26 + "_" + "A" * 43

    ran = user.try_to_mount(credential=key)

    assert_refused(user, ran, DENIED, "hint: ", "MESA_API_KEY")
    assert key not in ran.err + user.log


@pytest.mark.parametrize("credential", ["nonsense", "mesa_live_x", "eyJhbGciOiJIUzI1NiJ9.e30.e30"])
def test_what_is_no_credential_at_all_is_refused(user: Mounted, credential: str) -> None:
    ran = user.try_to_mount(credential=credential)

    assert_refused(user, ran, DENIED, "hint: ")
    assert "MESA_API_KEY" in ran.err or "mesa token create" in ran.err


def test_a_revoked_key_is_refused(user: Mounted) -> None:
    admin = user.repository.admin
    key_id, key = admin.key(user.repository)
    admin.client.api_keys.revoke(key_id=key_id)

    ran = user.try_to_mount(credential=key)

    assert_refused(user, ran, DENIED, "hint: ", "key")


def test_without_a_credential_the_ways_to_give_one_are_named(user: Mounted) -> None:
    ran = user.try_to_mount(credential="")

    assert_refused(user, ran, DENIED, "MESA_API_KEY")


def test_without_an_organisation_its_setting_is_named(user: Mounted) -> None:
    ran = user.try_to_mount(MESA_ORG="")

    assert_refused(user, ran, USAGE, "MESA_ORG")


def test_another_organisation_is_refused(user: Mounted) -> None:
    ran = user.try_to_mount(MESA_ORG="elsewhere")

    assert_refused(user, ran, NOT_FOUND, "organisation", "hint: ", "MESA_ORG")


def test_a_repository_that_does_not_exist_is_refused_by_name(user: Mounted) -> None:
    org = user.repository.admin.server.org

    ran = user.try_to_mount("--repo", f"{org}/no-such-thing")

    assert_refused(user, ran, NOT_FOUND, "no-such-thing", "hint: ")


def test_a_repository_beyond_the_token_is_as_one_that_does_not_exist(user: Mounted) -> None:
    admin = user.repository.admin
    other = admin.repository({"secret": b"x"})

    ran = user.try_to_mount("--repo", other.full_name)

    assert_refused(user, ran, NOT_FOUND, other.name, "hint: ")


def test_a_bookmark_that_does_not_exist_is_refused_by_name(user: Mounted) -> None:
    ran = user.try_to_mount("--repo", f"{user.repository.full_name}=bookmark:nope")

    assert_refused(user, ran, NOT_FOUND, "nope", "hint: ")


@pytest.mark.parametrize("text", ["../../etc", "a/b/c", "", "/", "elsewhere/x"])
def test_what_names_no_repository_here_is_refused_before_the_server_is_asked(
    user: Mounted, text: str
) -> None:
    ran = user.try_to_mount("--repo", text, MESA_API_URL=f"http://127.0.0.1:{free_port()}")

    assert_refused(user, ran, USAGE, "hint: ")


@pytest.mark.parametrize("name", ["..", ".git", "na me", "x\x1b[2J", "%2e%2e", "n" * 300, "é"])
def test_a_hostile_repository_name_is_one_that_does_not_exist(user: Mounted, name: str) -> None:
    ran = user.try_to_mount("--repo", f"{user.repository.admin.server.org}/{name}")

    assert_refused(user, ran, ran.status, "hint: ")
    assert ran.status in {USAGE, NOT_FOUND}
    assert "\x1b" not in ran.err


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://127.0.0.1", "http://", "http://user:secret@127.0.0.1/", "http://h:x"]
)
def test_an_address_that_is_none_is_refused_with_its_setting(user: Mounted, url: str) -> None:
    ran = user.try_to_mount(MESA_API_URL=url)

    assert_refused(user, ran, USAGE, "MESA_API_URL")
    assert "secret" not in ran.err


def test_a_server_that_is_not_there_is_reported_within_twelve_seconds(user: Mounted) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    ran = user.try_to_mount(MESA_API_URL=url)

    assert_refused(user, ran, LATER, url, "hint: ")


def test_a_mount_point_that_holds_files_is_left_alone(user: Mounted) -> None:
    user.mount_point.mkdir()
    (user.mount_point / "mine").write_bytes(b"mine")

    ran = user.try_to_mount()

    assert_refused(user, ran, USAGE, str(user.mount_point), "hint: ")
    assert names(user.mount_point) == ["mine"]


def test_a_mount_point_that_is_a_file_is_left_alone(user: Mounted) -> None:
    user.mount_point.write_bytes(b"mine")

    ran = user.try_to_mount()

    assert_refused(user, ran, USAGE, str(user.mount_point), "hint: ")
    assert user.mount_point.read_bytes() == b"mine"


def test_a_link_is_no_mount_point(user: Mounted, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    user.mount_point.symlink_to(tmp_path / "elsewhere")

    ran = user.try_to_mount()

    assert_refused(user, ran, USAGE, "symbolic link", "hint: ")
    assert not mounting.is_ours(tmp_path / "elsewhere")


def test_the_root_of_the_machine_is_no_mount_point(user: Mounted) -> None:
    ran = user.try_to_mount("--mount-point", "/")

    assert_refused(user, ran, USAGE, "hint: ")


def test_a_folder_of_another_mount_is_no_mount_point(user: Mounted, new_mount: MakeMount) -> None:
    user.mount()
    (user.folder / "inner").mkdir()
    other = new_mount(user.repository)

    ran = other.try_to_mount("--mount-point", str(user.folder / "inner"))

    assert_refused(other, ran, USAGE, str(user.mount_point), "hint: ")


def test_a_second_mount_of_another_user_at_the_same_place_is_refused(
    user: Mounted, new_mount: MakeMount
) -> None:
    user.mount()
    other = new_mount(user.repository)

    ran = other.try_to_mount("--mount-point", str(user.mount_point))

    assert ran.status != 0
    assert str(user.mount_point) in ran.err
    assert (user.folder / "file").read_bytes() == b"content\n"


def test_commands_without_a_mount_say_so(user: Mounted) -> None:
    for command in ("sync", "unmount"):
        ran = user.mesa(command)

        assert ran.status == NOT_FOUND
        assert "mesa mount" in ran.err


def test_unmounting_what_is_no_mount_touches_nothing(user: Mounted, tmp_path: Path) -> None:
    ran = user.mesa("unmount", "--force", str(tmp_path))

    assert ran.status == NOT_FOUND
    assert tmp_path.is_dir()
