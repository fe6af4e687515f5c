"""What goes wrong under a living mount: as the credential table says, nothing lost, no endless wait."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mesafs.testing.proxy import Corrupt, Cut, Delay, DropResponse, Mode, Pass, Proxy, Refuse, Stall
from support.mounts import Administrator, Mounted, names, refused
from support.polling import poll
from support.power import PowerCutDisk

pytestmark = [pytest.mark.system, pytest.mark.needs("fuse")]

MakeMount = Callable[..., Mounted]

DENIED, LATER = 4, 75
#: The stated time for which a read waits for a server that does not answer, and some.
PATIENCE_SECONDS = 12.0


def fails_with(code: int, call: Callable[[], object]) -> bool:
    try:
        call()
    except OSError as error:
        return error.errno == code
    return False


def ask_the_server(path: Path) -> bytes:
    """Read bytes that the kernel has not kept."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(fd, 1 << 16, 0)
    finally:
        os.close(fd)


# -- the credential --------------------------------------------------------------------------------


def test_an_expired_token_refuses_reads_and_writes_and_keeps_the_edits(
    admin: Administrator, new_mount: MakeMount
) -> None:
    repository = admin.repository({"file": b"content\n", "other": b"other\n"})
    user = new_mount(repository, credential=admin.token(repository, ttl=4))
    user.mount()
    file, other = user.folder / "file", user.folder / "other"
    assert file.read_bytes() == b"content\n"
    held = os.open(user.folder / "held", os.O_CREAT | os.O_RDWR)
    try:
        poll(lambda: user.status["credential"]["state"] == "expired" or _write(held), 10)

        for call in (
            file.read_bytes,
            other.read_bytes,
            other.stat,
            lambda: names(user.folder),
            (user.folder / "new").touch,
            file.unlink,
            lambda: file.chmod(0o755),
        ):
            with refused(errno.EACCES):
                call()
    finally:
        os.close(held)
    written = user.checkout
    assert written["unpublished"] == 1

    sync = user.mesa("sync")
    assert sync.status == DENIED
    assert "expired" in sync.err
    assert "MESA_API_KEY" in sync.err
    unmount = user.mesa("unmount")
    assert unmount.status == DENIED
    assert "expired" in unmount.err
    poll(lambda: not user.is_mounted)

    user.credential = admin.token(repository)
    user.mount()
    assert (user.folder / "held").read_bytes().startswith(b"x")
    user.assert_published()


def _write(fd: int) -> bool:
    with suppress(PermissionError):
        os.write(fd, b"x")
    return False


def test_mounting_again_gives_a_living_mount_a_new_token(
    admin: Administrator, new_mount: MakeMount
) -> None:
    repository = admin.repository({"file": b"content\n"})
    user = new_mount(repository, credential=admin.token(repository, ttl=2))
    user.mount()
    pid = user.pid
    reader = (user.folder / "file").open("rb")
    with reader:
        poll(lambda: fails_with(errno.EACCES, (user.folder / "file").read_bytes), 6)

        user.credential = admin.token(repository)
        ran = user.try_to_mount()

        assert ran.status == 0, ran.err
        assert "renewed" in ran.out
        assert user.pid == pid
        assert reader.read() == b"content\n"
    assert (user.folder / "file").read_bytes() == b"content\n"
    (user.folder / "file").write_bytes(b"after\n")
    user.assert_published()


def test_a_renewal_must_reach_what_is_mounted(admin: Administrator, mounted: Mounted) -> None:
    other = admin.repository()

    ran = mounted.try_to_mount(credential=admin.token(other))

    assert ran.status != 0
    assert mounted.repository.name in ran.err
    assert (mounted.folder / "README.md").read_bytes() == b"# Example\n"
    mounted.assert_published()


def test_with_grace_an_expired_mount_goes_on_with_what_is_here(
    admin: Administrator, new_mount: MakeMount
) -> None:
    repository = admin.repository({"seen": b"seen\n", "unseen": b"unseen\n"})
    user = new_mount(repository, "--on-expiry=grace", credential=admin.token(repository, ttl=2))
    user.mount()
    before = repository.tree
    assert (user.folder / "seen").read_bytes() == b"seen\n"
    poll(lambda: user.status["credential"]["state"] == "expired", 6)

    assert ask_the_server(user.folder / "seen") == b"seen\n"
    (user.folder / "written").write_bytes(b"written\n")
    with refused(errno.EACCES):
        (user.folder / "unseen").read_bytes()
    assert user.mesa("sync").status == DENIED
    assert repository.tree == before

    user.credential = admin.token(repository)
    assert user.try_to_mount().status == 0
    poll(lambda: repository.tree != before, 5, what="published without being asked")
    assert (user.folder / "unseen").read_bytes() == b"unseen\n"
    user.assert_published()


def test_a_new_token_in_the_credential_file_is_taken(
    admin: Administrator, new_mount: MakeMount, tmp_path: Path
) -> None:
    repository = admin.repository({"file": b"content\n", "unseen": b"unseen\n"})
    credential = tmp_path / "credential"
    credential.write_text(admin.token(repository, ttl=2))
    user = new_mount(repository, "--api-key-file", str(credential), credential="")
    user.mount()
    (user.folder / "before").write_bytes(b"before\n")
    poll(lambda: user.status["credential"]["state"] == "expired", 6)
    (user.folder / "meanwhile").write_bytes(b"meanwhile\n")

    (tmp_path / "next").write_text(admin.token(repository) + "\n")
    (tmp_path / "next").rename(credential)

    poll(lambda: user.status["credential"]["state"] == "valid", 8)
    assert (user.folder / "unseen").read_bytes() == b"unseen\n"
    user.assert_published()


@pytest.mark.parametrize("with_token", [False, True], ids=["key", "token"])
def test_a_revoked_key_ends_the_mount_within_a_second(
    admin: Administrator, new_mount: MakeMount, with_token: bool
) -> None:
    repository = admin.repository({"file": b"content\n"})
    key_id, key = admin.key(repository)
    credential = admin.token_of(key, repository) if with_token else key
    user = new_mount(repository, credential=credential)
    user.mount()
    assert (user.folder / "file").read_bytes() == b"content\n"
    (user.folder / "written").write_bytes(b"kept\n")

    admin.client.api_keys.revoke(key_id=key_id)

    poll(lambda: fails_with(errno.EACCES, (user.folder / "file").read_bytes), 1.0)
    assert fails_with(errno.EACCES, lambda: names(user.folder))
    assert fails_with(errno.EACCES, lambda: (user.folder / "file").write_bytes(b""))
    assert user.status["credential"]["state"] == "revoked"

    user.mesa("unmount")
    poll(lambda: not user.is_mounted)
    user.credential = admin.token(repository)
    user.mount()
    assert (user.folder / "written").read_bytes() == b"kept\n"
    user.assert_published()


def test_edits_made_while_the_server_is_away_survive_a_revoked_key(
    own_admin: Administrator, new_mount: MakeMount
) -> None:
    repository = own_admin.repository({"file": b"content\n"})
    key_id, key = own_admin.key(repository)
    server = own_admin.server
    with Proxy(("127.0.0.1", server.port)) as proxy:
        user = new_mount(repository, credential=key, url=proxy.url)
        user.mount()
        assert names(user.folder) == ["file"]
        proxy.use(Refuse())
        (user.folder / "offline").write_bytes(b"offline\n")
        own_admin.client.api_keys.revoke(key_id=key_id)
        proxy.use(Pass())
        poll(lambda: user.status["credential"]["state"] == "revoked", 10)

        assert fails_with(errno.EACCES, (user.folder / "offline").read_bytes)
        assert user.mesa("unmount").status == DENIED
        poll(lambda: not user.is_mounted)
        user.credential = own_admin.token(repository)
        user.mount()

        assert (user.folder / "offline").read_bytes() == b"offline\n"
        user.assert_published()


@pytest.mark.parametrize("why", ["option", "scope"])
def test_a_read_only_mount_takes_no_edit(
    admin: Administrator, new_mount: MakeMount, why: str
) -> None:
    repository = admin.repository({"file": b"content\n", "folder/in": b""})
    if why == "option":
        user = new_mount(repository, "--read-only")
    else:
        user = new_mount(repository, credential=admin.token(repository, scopes=["read"]))
    user.mount()
    file = user.folder / "file"

    for call in (
        lambda: file.write_bytes(b"x"),
        file.unlink,
        lambda: file.rename(user.folder / "moved"),
        lambda: file.chmod(0o755),
        lambda: os.utime(file),
        lambda: os.truncate(file, 0),
        (user.folder / "new").touch,
        (user.folder / "new").mkdir,
        lambda: (user.folder / "link").symlink_to("file"),
        (user.folder / "folder").rmdir,
    ):
        with refused(errno.EROFS):
            call()

    assert file.read_bytes() == b"content\n"
    assert user.checkout["read_only"] is True
    user.unmount()


# -- the server ------------------------------------------------------------------------------------


def test_a_mount_outlives_its_server_and_publishes_when_it_is_back(
    own_admin: Administrator, new_mount: MakeMount
) -> None:
    repository = own_admin.repository({"seen": b"seen\n", "d/unseen": b"unseen\n"})
    user = new_mount(repository)
    user.mount()
    assert (user.folder / "seen").read_bytes() == b"seen\n"
    assert names(user.folder / "d") == ["unseen"]
    before = repository.tree
    own_admin.server.kill()

    assert ask_the_server(user.folder / "seen") == b"seen\n"
    (user.folder / "seen").write_bytes(b"edited\n")
    (user.folder / "new").mkdir()
    (user.folder / "new/file").write_bytes(b"new\n")
    os.sync()
    began = time.monotonic()
    with refused(errno.EIO):
        (user.folder / "d/unseen").read_bytes()
    assert time.monotonic() - began < PATIENCE_SECONDS
    began = time.monotonic()
    with refused(errno.EIO):
        (user.folder / "d/unseen").read_bytes()
    assert time.monotonic() - began < 1.0, "known to be away: no second wait"
    status = user.status
    assert status["reachable"] is False
    assert status["repositories"][0]["unpublished"] >= 2
    sync = user.mesa("sync")
    assert sync.status == LATER
    assert "kept" in sync.err or "cannot be reached" in sync.err

    own_admin.server = own_admin.server.restart()

    poll(lambda: repository.tree != before, 15, what="published by itself")
    assert (user.folder / "d/unseen").read_bytes() == b"unseen\n"
    user.assert_published()


@pytest.fixture
def proxy(admin: Administrator) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", admin.server.port)) as between:
        yield between


@pytest.fixture
def behind(admin: Administrator, proxy: Proxy, new_mount: MakeMount) -> Mounted:
    """A mount that reaches its server through ``proxy``, and has looked at nothing yet."""
    repository = admin.repository({"file": b"content\n" * 50, "d/inner": b"inner\n"})
    user = new_mount(repository, url=proxy.url)
    user.mount()
    return user


@pytest.mark.parametrize(
    "mode",
    [Stall(), Refuse(), Cut(100), Cut(100, reset=False), Cut(0), DropResponse()],
    ids=["stalls", "refuses", "resets", "ends early", "resets at once", "never answers"],
)
def test_a_server_that_does_not_answer_is_an_error_and_never_emptiness(
    behind: Mounted, proxy: Proxy, mode: Mode
) -> None:
    proxy.use(mode)

    began = time.monotonic()
    with refused(errno.EIO):
        names(behind.folder)
    assert time.monotonic() - began < PATIENCE_SECONDS
    for _ in range(5):  # a search does not wait for each file
        with refused(errno.EIO):
            (behind.folder / "file").read_bytes()
    assert time.monotonic() - began < PATIENCE_SECONDS

    proxy.use(Pass())
    assert poll(lambda: _names(behind.folder), 5) == ["d", "file"]
    (behind.folder / "after").write_bytes(b"after\n")
    behind.assert_published()


@pytest.mark.parametrize("mode", [Refuse(), Cut(100), DropResponse()], ids=repr)
def test_a_file_that_cannot_be_fetched_is_an_error_and_never_empty(
    behind: Mounted, proxy: Proxy, mode: Mode
) -> None:
    assert names(behind.folder) == ["d", "file"]
    proxy.use(mode)

    with refused(errno.EIO):
        (behind.folder / "file").read_bytes()

    proxy.use(Pass())
    assert poll(lambda: _reads(behind.folder / "file"), 5) == b"content\n" * 50


def test_a_slow_server_is_waited_for(behind: Mounted, proxy: Proxy) -> None:
    proxy.use(Delay(0.3))

    assert names(behind.folder) == ["d", "file"]
    assert (behind.folder / "file").read_bytes() == b"content\n" * 50
    (behind.folder / "file").write_bytes(b"edited\n")
    behind.assert_published()


@pytest.mark.parametrize("at", [40, 300, 420])
def test_a_flipped_bit_is_never_shown(behind: Mounted, proxy: Proxy, at: int) -> None:
    assert names(behind.folder) == ["d", "file"]
    proxy.use(Corrupt(at))

    with suppress(OSError):
        assert (behind.folder / "file").read_bytes() == b"content\n" * 50

    proxy.use(Pass())
    poll(lambda: _reads(behind.folder / "file") == b"content\n" * 50)
    assert (behind.folder / "d/inner").read_bytes() == b"inner\n"


def _names(folder: Path) -> list[str]:
    with suppress(OSError):
        return names(folder)
    return []


def _reads(path: Path) -> bytes | None:
    with suppress(OSError):
        return path.read_bytes()
    return None


def test_work_goes_on_while_the_server_stalls(behind: Mounted, proxy: Proxy) -> None:
    assert (behind.folder / "file").read_bytes() == b"content\n" * 50
    proxy.use(Stall())

    began = time.monotonic()
    for n in range(200):
        (behind.folder / f"n{n}").write_bytes(b"written while nobody answers\n")
    assert ask_the_server(behind.folder / "file") == b"content\n" * 50
    assert time.monotonic() - began < 5

    proxy.use(Pass())
    behind.assert_published()


def test_rubbish_in_place_of_a_server_shows_nothing_and_loses_nothing(
    own_admin: Administrator, new_mount: MakeMount
) -> None:
    repository = own_admin.repository({"file": b"content\n"})
    user = new_mount(repository)
    user.mount()
    port = own_admin.server.port
    own_admin.server.kill()
    with rubbish(port):
        (user.folder.parent).stat()
        with refused(errno.EIO):
            names(user.folder)
        with refused(errno.EIO):
            (user.folder / "file").read_bytes()
        assert user.mesa("sync").status == 0 or user.checkout["unpublished"] >= 0
    own_admin.server = own_admin.server.restart()

    poll(lambda: _reads(user.folder / "file") == b"content\n", 15)
    (user.folder / "file").write_bytes(b"edited\n")
    user.assert_published()


def test_an_fsync_with_server_durability_fails_in_time_when_the_server_has_nothing(
    own_admin: Administrator, new_mount: MakeMount
) -> None:
    repository = own_admin.repository({"file": b"content\n"})
    user = new_mount(repository, "--durability=server")
    user.mount()
    with (user.folder / "file").open("r+b") as file:
        file.write(b"CONTENT")
        file.flush()
        os.fsync(file.fileno())
        assert repository.tree == user.tree_by_git()
        own_admin.server.kill()
        file.write(b"!")
        file.flush()

        began = time.monotonic()
        with refused(errno.EIO):
            os.fsync(file.fileno())
        assert time.monotonic() - began < PATIENCE_SECONDS

        own_admin.server = own_admin.server.restart()
        poll(lambda: not fails_with(errno.EIO, lambda: os.fsync(file.fileno())), 20)
    user.assert_published()


@contextmanager
def rubbish(port: int) -> Iterator[None]:
    """Whatever is asked, a page of HTML with status 200, as a captive portal would."""
    page = b"<!doctype html><title>Welcome</title><p>Please log in to the network."

    class Portal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Portal)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# -- this machine's disk ---------------------------------------------------------------------------


@pytest.mark.needs("loop")
@pytest.mark.parametrize("way", ["passthrough", "carried"])
def test_a_full_disk_refuses_writes_takes_deletes_and_recovers(
    admin: Administrator, new_mount: MakeMount, tmp_path: Path, way: str
) -> None:
    repository = admin.repository({"file": b"content\n", "other": b"other\n"})
    options = () if way == "passthrough" else ("--no-passthrough",)
    with PowerCutDisk(tmp_path, size_mb=32) as disk:
        user = new_mount(repository, *options, state_home=disk.path)
        user.mount()
        try:
            acknowledged = _fill(user.folder)
            with refused(errno.ENOSPC):
                (user.folder / "one-more").write_bytes(bytes(4 << 20))
            assert (user.folder / "file").read_bytes() == b"content\n"

            (user.folder / "fill-0").unlink()
            acknowledged.pop("fill-0")
            (user.folder / "one-more").unlink(missing_ok=True)

            poll(lambda: not fails_with(errno.ENOSPC, lambda: _small(user.folder)), 10)
            for name, size in acknowledged.items():
                assert (user.folder / name).stat().st_size == size
            user.assert_published()
            user.unmount()
        finally:
            user.end()


def _fill(folder: Path) -> dict[str, int]:
    """Write until the disk is full; what was acknowledged, by name."""
    sizes: dict[str, int] = {}
    with refused(errno.ENOSPC):
        for n in range(64):
            name = f"fill-{n}"
            fd = os.open(folder / name, os.O_CREAT | os.O_WRONLY)
            sizes[name] = 0
            try:
                while sizes[name] < 2 << 20:
                    sizes[name] += os.write(fd, os.urandom(1 << 18))
            finally:
                os.close(fd)
    return sizes


def _small(folder: Path) -> None:
    (folder / "small").write_bytes(b"small\n")
