"""Ordinary programs in a real mount; after each the server has the folder as it is."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.mounts import Administrator, Mounted, names, refused, run
from support.plain_git import git
from support.polling import poll

pytestmark = [pytest.mark.system, pytest.mark.needs("fuse")]

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def renameat2(old: Path, new: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# -- whole programs ------------------------------------------------------------------------------


def test_git_clone_status_and_commit_work_inside_and_stay_local(
    both_ways: Mounted, tmp_path: Path
) -> None:
    origin = tmp_path / "origin"
    (origin / "src").mkdir(parents=True)
    git("init", "--quiet", "--initial-branch=main", origin)
    for n in range(50):
        (origin / f"src/{n}.txt").write_text(f"file {n}\n" * 20)
    (origin / "tool").write_text("#!/bin/sh\n")
    (origin / "tool").chmod(0o755)
    git("add", ".", cwd=origin)
    git("commit", "--quiet", "-m", "first", cwd=origin)

    clone = both_ways.folder / "clone"
    git("clone", "--quiet", origin, clone)
    assert git("status", "--porcelain", cwd=clone) == b""
    (clone / "src/1.txt").write_text("edited\n")
    assert git("status", "--porcelain", cwd=clone) == b" M src/1.txt\n"
    git("commit", "--quiet", "-am", "second", cwd=clone)
    git("gc", "--quiet", cwd=clone)
    git("fsck", "--strict", cwd=clone)

    both_ways.assert_published()
    assert both_ways.checkout["local_names"] == ["clone/.git"]
    assert git("status", "--porcelain", cwd=clone) == b""
    assert git("rev-list", "--count", "HEAD", cwd=clone) == b"2\n"


def test_git_init_at_the_root_sees_the_same_tree_as_the_server(both_ways: Mounted) -> None:
    folder = both_ways.folder
    git("init", "--quiet", cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "-m", "all", cwd=folder)
    both_ways.assert_published()

    assert git("rev-parse", "HEAD^{tree}", cwd=folder).decode().strip() == both_ways.repository.tree
    assert git("status", "--porcelain", cwd=folder) == b""


def test_a_clone_from_the_server_has_what_was_written(mounted: Mounted, tmp_path: Path) -> None:
    (mounted.folder / "new").mkdir()
    (mounted.folder / "new/file").write_bytes(b"\0\xff" * 1000)
    (mounted.folder / "src/main.py").unlink()
    mounted.sync()

    clone = mounted.repository.clone(tmp_path / "clone")

    assert (clone / "new/file").read_bytes() == b"\0\xff" * 1000
    assert not (clone / "src/main.py").exists()
    assert git("rev-parse", "HEAD^{tree}", cwd=clone).decode().strip() == mounted.tree_by_git()


def test_tar_packs_and_unpacks(both_ways: Mounted, sources: Path, tmp_path: Path) -> None:
    run("tar", "-cf", tmp_path / "in.tar", "-C", sources, ".")
    (both_ways.folder / "unpacked").mkdir()

    run("tar", "-xf", tmp_path / "in.tar", "-C", both_ways.folder / "unpacked")
    run("tar", "-czf", both_ways.folder / "again.tgz", "-C", both_ways.folder, "unpacked")

    both_ways.assert_published()
    run("tar", "-xzf", both_ways.folder / "again.tgz", "-C", tmp_path)
    run("diff", "-r", sources, tmp_path / "unpacked")


def test_rsync_copies_with_times_and_then_finds_nothing_to_do(
    both_ways: Mounted, sources: Path
) -> None:
    target = both_ways.folder / "copy"
    run("rsync", "-a", f"{sources}/", target)
    both_ways.assert_published()

    again = run("rsync", "-ai", f"{sources}/", target)

    assert [line for line in again.splitlines() if not line.startswith(".d")] == []


def test_cp_keeps_modes_times_and_links(both_ways: Mounted, sources: Path) -> None:
    target = both_ways.folder / "copy"

    run("cp", "-a", sources, target)

    both_ways.assert_published()
    for path in sources.rglob("*"):
        copy = target / path.relative_to(sources)
        assert copy.lstat().st_mode == path.lstat().st_mode, path
        if not path.is_dir() and not path.is_symlink():
            assert copy.stat().st_mtime_ns == path.stat().st_mtime_ns, path


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_sqlite_keeps_its_promises(both_ways: Mounted, journal: str) -> None:
    database = both_ways.folder / "data.db"
    rows = "insert into t(text) values" + ",".join(f"('row {n}')" for n in range(500)) + ";"
    script = "begin;" + rows + "commit;" + "begin;" + rows + "rollback;"
    run(
        "sqlite3",
        database,
        f"pragma journal_mode={journal}; create table t(id integer primary key, text);",
    )

    for _ in range(5):
        run("sqlite3", database, f"pragma journal_mode={journal};{script}")

    assert (
        run("sqlite3", database, "select count(*) from t; pragma integrity_check;") == "2500\nok\n"
    )
    both_ways.assert_published()
    assert run("sqlite3", database, "select count(*) from t;") == "2500\n"


def test_two_sqlite_writers_at_once_lose_no_row(mounted: Mounted) -> None:
    database = mounted.folder / "shared.db"
    run("sqlite3", database, "pragma journal_mode=wal; create table t(who, n);")
    program = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n"
        "for n in range(100):\n"
        "    db.execute('insert into t values(?, ?)', (sys.argv[2], n))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(database), name]) for name in "ab"
    ]

    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert run("sqlite3", database, "select who, count(*) from t group by who;") == "a|100\nb|100\n"
    mounted.assert_published()


def test_ripgrep_finds_what_grep_finds_elsewhere(mounted: Mounted, sources: Path) -> None:
    run("cp", "-a", sources, mounted.folder / "tree")

    found = run("rg", "--no-ignore", "--sort", "path", "def ", cwd=mounted.folder / "tree")

    assert found == run("rg", "--no-ignore", "--sort", "path", "def ", cwd=sources)
    assert found


def test_gcc_compiles_and_the_program_runs_from_the_mount(both_ways: Mounted) -> None:
    folder = both_ways.folder
    (folder / "hello.c").write_text('#include <stdio.h>\nint main(){puts("hello");return 0;}\n')

    run("gcc", "-O1", "-c", "hello.c", "-o", "hello.o", cwd=folder)
    run("gcc", "hello.o", "-o", "hello", cwd=folder)

    assert run(folder / "hello") == "hello\n"
    both_ways.assert_published()
    assert run(folder / "hello") == "hello\n"


def test_make_finds_nothing_to_do_after_a_publish(mounted: Mounted) -> None:
    folder = mounted.folder
    (folder / "Makefile").write_text("out: in\n\tcp in out\n")
    (folder / "in").write_text("content")
    run("make", cwd=folder)
    mounted.assert_published()

    assert "up to date" in run("make", cwd=folder)


def test_a_virtual_environment_is_made_and_imported_from(mounted: Mounted) -> None:
    folder = mounted.folder
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    (folder / "package").mkdir()
    (folder / "package/__init__.py").write_text("from package.inner import value\n")
    (folder / "package/inner.py").write_text("value = 42\n")

    said = run(folder / "venv/bin/python", "-c", "import package; print(package.value)", cwd=folder)

    assert said == "42\n"
    assert (folder / "package/__pycache__").is_dir()
    mounted.assert_published()


# -- calls ---------------------------------------------------------------------------------------


def test_what_is_stored_through_a_mapping_is_published_after_msync(both_ways: Mounted) -> None:
    path = both_ways.folder / "mapped"
    path.write_bytes(b"a" * 3 * mmap.PAGESIZE)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[10:15] = b"store"
        mapping[2 * mmap.PAGESIZE :] = b"z" * mmap.PAGESIZE
        mapping.flush()

        assert path.read_bytes()[10:15] == b"store"
        both_ways.assert_published()
        mapping[20:25] = b"again"
        mapping.flush()
    both_ways.assert_published()

    assert path.read_bytes()[10:25] == b"storeaaaaaagain"[:15]


def test_an_unedited_file_is_mapped_for_reading(both_ways: Mounted) -> None:
    with (
        (both_ways.folder / "src/deep/er/data.txt").open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping,
    ):
        assert mapping[:7] == b"line 0\n"
        assert mapping.rfind(b"line 99\n") > 0


def test_append_truncate_and_sparse_writes_are_what_a_disk_would_keep(
    both_ways: Mounted, tmp_path: Path
) -> None:
    def work(folder: Path) -> None:
        with (folder / "log").open("ab") as log:
            log.write(b"one\n")
            log.flush()
            log.write(b"two\n")
        with (folder / "log").open("ab") as log:
            log.write(b"three\n")
        with (folder / "hole").open("wb") as hole:
            hole.seek(1 << 20)
            hole.write(b"end")
        os.truncate(folder / "data", 10)
        os.truncate(folder / "data", 20)
        with (folder / "data").open("r+b") as data:
            data.seek(15)
            data.write(b"mid")
            data.truncate(17)

    (both_ways.folder / "data").write_bytes(b"0123456789abcdef")
    (tmp_path / "data").write_bytes(b"0123456789abcdef")
    work(both_ways.folder)
    work(tmp_path)

    for name in ("log", "hole", "data"):
        assert (both_ways.folder / name).read_bytes() == (tmp_path / name).read_bytes()
    with (both_ways.folder / "hole").open("rb") as hole:
        assert os.lseek(hole.fileno(), 0, os.SEEK_DATA) > 0
    both_ways.assert_published()


def test_an_unedited_file_is_changed_in_the_middle(both_ways: Mounted) -> None:
    path = both_ways.folder / "src/deep/er/data.txt"
    before = path.read_bytes()
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, b"LINE", 7)
        assert os.pread(fd, 20, 0) == before[:7] + b"LINE" + before[11:20]
    finally:
        os.close(fd)

    assert path.read_bytes() == before[:7] + b"LINE" + before[11:]
    both_ways.assert_published()


def test_a_reader_that_was_there_first_sees_the_edit(both_ways: Mounted) -> None:
    path = both_ways.folder / "README.md"
    reader = os.open(path, os.O_RDONLY)
    try:
        assert os.pread(reader, 100, 0) == b"# Example\n"
        with path.open("ab") as writer:
            writer.write(b"more\n")

        assert os.pread(reader, 100, 0) == b"# Example\nmore\n"
    finally:
        os.close(reader)
    both_ways.assert_published()


def test_only_one_of_many_makes_an_exclusive_file(mounted: Mounted) -> None:
    path = mounted.folder / "lock"
    made: list[bool] = []

    def attempt() -> None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            made.append(True)
        except FileExistsError:
            made.append(False)

    threads = [threading.Thread(target=attempt) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(made) == [False] * 15 + [True]


@contextmanager
def other_process_holds(path: Path, *, posix: bool) -> Iterator[None]:
    call = "lockf" if posix else "flock"
    program = (
        "import fcntl, sys\n"
        "f = open(sys.argv[1], 'r+b')\n"
        f"fcntl.{call}(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        yield
        process.stdin.close()


@pytest.mark.parametrize("posix", [False, True], ids=["flock", "fcntl"])
def test_a_lock_of_one_process_holds_off_another(mounted: Mounted, posix: bool) -> None:
    path = mounted.folder / "README.md"
    lock = fcntl.lockf if posix else fcntl.flock
    with path.open("r+b") as file:
        with other_process_holds(path, posix=posix), pytest.raises(BlockingIOError):
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_file_renamed_over_an_open_one_leaves_the_reader_its_bytes(both_ways: Mounted) -> None:
    folder = both_ways.folder
    with (folder / "README.md").open("rb") as reader:
        (folder / "README.new").write_bytes(b"new\n")
        (folder / "README.new").rename(folder / "README.md")

        assert reader.read() == b"# Example\n"
        assert (folder / "README.md").read_bytes() == b"new\n"
    both_ways.assert_published()


def test_an_unlinked_open_file_is_read_and_written_to_its_end(both_ways: Mounted) -> None:
    folder = both_ways.folder
    with (folder / "README.md").open("r+b") as known, (folder / "fresh").open("w+b") as fresh:
        (folder / "README.md").unlink()
        (folder / "fresh").unlink()
        fresh.write(b"x" * 100_000)
        fresh.seek(0)

        assert known.read() == b"# Example\n"
        assert fresh.read() == b"x" * 100_000
        assert os.fstat(fresh.fileno()).st_nlink == 0
        both_ways.assert_published()
        known.write(b"late")
        known.seek(0)
        assert known.read() == b"# Example\nlate"
    assert names(folder) == ["src"]


def test_rename_flags_are_kept(mounted: Mounted) -> None:
    folder = mounted.folder
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")

    with pytest.raises(FileExistsError):
        renameat2(folder / "a", folder / "b", RENAME_NOREPLACE)
    renameat2(folder / "a", folder / "src", RENAME_EXCHANGE)
    renameat2(folder / "b", folder / "c", RENAME_NOREPLACE)

    assert (folder / "src").read_bytes() == b"a"
    assert (folder / "a/main.py").read_bytes() == b"print('hello')\n"
    assert not (folder / "b").exists()
    mounted.assert_published()


def test_directories_move_with_all_that_is_in_them(mounted: Mounted) -> None:
    folder = mounted.folder
    (folder / "target").mkdir()
    (folder / "src/new").write_bytes(b"made before the move")

    (folder / "src").rename(folder / "target/moved")
    (folder / "target/moved/later").write_bytes(b"made after it")
    with pytest.raises(OSError, match="not empty"):
        (folder / "target").rmdir()

    assert (folder / "target/moved/deep/er/data.txt").read_bytes().startswith(b"line 0\n")
    mounted.assert_published()


def test_a_fifo_and_a_socket_work_and_stay_here(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mounted.folder
    monkeypatch.chdir(folder)
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(b"through"))
    writer.start()
    assert Path("pipe").read_bytes() == b"through"
    writer.join()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("socket")
        listener.listen()
        client.connect("socket")

    mounted.assert_published()

    assert sorted(mounted.checkout["local_names"]) == ["pipe", "socket"]
    assert Path("pipe").is_fifo()
    assert Path("socket").is_socket()
    monkeypatch.undo()


def test_hard_links_and_devices_are_refused(mounted: Mounted) -> None:
    folder = mounted.folder

    with refused(errno.EPERM):
        os.link(folder / "README.md", folder / "second")
    with refused(errno.EPERM):
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))

    assert not (folder / "second").exists()


def test_the_executable_bit_and_links_are_published(mounted: Mounted, tmp_path: Path) -> None:
    folder = mounted.folder
    (folder / "README.md").chmod(0o755)
    (folder / "src/link").symlink_to("../README.md")
    (folder / "dangling").symlink_to("nowhere/at all")

    assert (folder / "src/link").read_bytes() == b"# Example\n"
    mounted.assert_published()
    listing = git("ls-tree", "-r", "HEAD", cwd=mounted.repository.clone(tmp_path / "c")).decode()
    modes = {line.split("\t")[1]: line.split()[0] for line in listing.splitlines()}
    assert modes["README.md"] == "100755"
    assert modes["src/link"] == modes["dangling"] == "120000"
    (folder / "README.md").chmod(0o600)
    mounted.assert_published()
    assert stat.S_IMODE((folder / "README.md").stat().st_mode) == 0o600


def test_times_keep_their_nanoseconds_through_a_publish_and_a_remount(both_ways: Mounted) -> None:
    folder = both_ways.folder
    (folder / "mine").write_bytes(b"mine")
    wanted = {"mine": 1_234_567_890_123_456_789, "README.md": 987_654_321_987_654_321}
    for name, ns in wanted.items():
        os.utime(folder / name, ns=(ns, ns))

    assert {name: (folder / name).stat().st_mtime_ns for name in wanted} == wanted
    both_ways.assert_published()
    assert {name: (folder / name).stat().st_mtime_ns for name in wanted} == wanted
    numbers = {name: (folder / name).stat().st_ino for name in wanted}
    both_ways.unmount()
    both_ways.mount()
    assert {name: (folder / name).stat().st_mtime_ns for name in wanted} == wanted
    assert {name: (folder / name).stat().st_ino for name in wanted} == numbers


def test_statfs_tells_of_the_disk_that_edits_go_to(mounted: Mounted) -> None:
    here, disk = os.statvfs(mounted.folder), os.statvfs(mounted.home)

    assert here.f_namemax == 255
    assert here.f_blocks * here.f_frsize == disk.f_blocks * disk.f_frsize
    assert here.f_bavail > 0


def test_names_may_be_as_long_as_on_a_disk_and_no_longer(mounted: Mounted) -> None:
    folder = mounted.folder
    (folder / ("n" * 255)).write_bytes(b"long")
    (folder / ("ü" * 127)).mkdir()
    (folder / ("ü" * 127) / "in").write_bytes(b"below")
    Path(os.fsdecode(os.fsencode(folder) + b"/raw\xff\xfe")).write_bytes(b"no text")

    for make in (Path.mkdir, Path.touch, lambda path: path.symlink_to("x")):
        with refused(errno.ENAMETOOLONG):
            make(folder / ("n" * 256))
    mounted.assert_published()


def test_directories_go_deep(mounted: Mounted) -> None:
    deep = mounted.folder
    for n in range(100):
        deep = deep / f"d{n}"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"down here")

    mounted.assert_published()
    assert (deep / "file").read_bytes() == b"down here"


def test_an_empty_folder_stays_through_a_remount_and_is_not_published(mounted: Mounted) -> None:
    (mounted.folder / "empty/inner").mkdir(parents=True)
    before = mounted.repository.tree

    mounted.assert_published()
    mounted.unmount()
    mounted.mount()

    assert (mounted.folder / "empty/inner").is_dir()
    assert mounted.repository.tree == before


def test_an_empty_repository_takes_its_first_file(
    admin: Administrator, new_mount: Callable[..., Mounted]
) -> None:
    user = new_mount(admin.repository())
    user.mount()
    assert names(user.folder) == []

    (user.folder / "first").write_bytes(b"first")

    user.assert_published()


def test_an_edit_reaches_the_server_by_itself_within_two_seconds(both_ways: Mounted) -> None:
    before = both_ways.repository.tree
    with (both_ways.folder / "busy").open("wb", buffering=0) as file:
        file.write(b"written, and the file stays open")

        poll(lambda: both_ways.repository.tree != before, 2.0, what="published")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real tree: code, an executable, links, odd names, an empty file, an empty folder."""
    folder = tmp_path_factory.mktemp("sources") / "tree"
    folder.mkdir()
    for name in ("json", "email", "asyncio"):
        run("cp", "-a", Path(os.__file__).parent / name, folder / name)
    run("find", folder, "-name", "__pycache__", "-prune", "-exec", "rm", "-r", "{}", ";")
    (folder / "run").write_text("#!/bin/sh\necho hi\n")
    (folder / "run").chmod(0o755)
    (folder / "link").symlink_to("json/decoder.py")
    (folder / "name with space and ü").write_bytes(b"odd")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    return folder
