"""Two users with a mount each on one bookmark: nothing is lost, both end with the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesafs.testing.proxy import Pass, Proxy, Refuse
from support.mounts import Administrator, Mounted, names
from support.polling import poll

pytestmark = [pytest.mark.system, pytest.mark.needs("fuse")]

LINES = [f"line {n}" for n in range(30)]
TEXT = "\n".join(LINES).encode() + b"\n"


@pytest.fixture
def pair(admin: Administrator, new_mount: Callable[..., Mounted]) -> tuple[Mounted, Mounted]:
    repository = admin.repository(
        {"text": TEXT, "other": b"other\n", "src/a.py": b"a\n", "src/deep/b.py": b"b\n"}
    )
    first, second = new_mount(repository), new_mount(repository)
    first.mount()
    second.mount()
    return first, second


def replace(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def at_once(*calls: Callable[[], object]) -> None:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        barrier.wait()
        call()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def converge(*users: Mounted) -> str:
    """Both publish what they have, and come to show one tree; which one."""

    def trees() -> set[str]:
        for user in users:
            user.sync()
        return {user.checkout["tree"] for user in users} | {users[0].repository.tree}

    poll(lambda: len(trees()) == 1, 10, what="one tree")
    (tree,) = trees()
    for user in users:
        assert user.checkout["unpublished"] == 0
        assert user.checkout["problem"] is None
    return tree


def assert_converged(*users: Mounted) -> None:
    """As above, and each folder is that tree: there is no conflict whose markers it would show."""
    tree = converge(*users)
    for user in users:
        assert user.checkout["conflicts"] == []
        assert user.tree_by_git() == tree


def test_an_edit_on_one_is_seen_on_the_other_within_three_seconds(
    pair: tuple[Mounted, Mounted],
) -> None:
    first, second = pair
    assert (second.folder / "text").read_bytes() == TEXT
    assert "new" not in names(second.folder)

    replace(first.folder / "text", "line 3\n", "LINE 3\n")
    (first.folder / "new").mkdir()
    (first.folder / "new/file").write_bytes(b"new\n")
    (first.folder / "other").unlink()
    (first.folder / "src/a.py").chmod(0o755)

    poll((second.folder / "new/file").exists, 3)
    assert b"LINE 3\n" in (second.folder / "text").read_bytes()
    assert (second.folder / "new/file").read_bytes() == b"new\n"
    assert not (second.folder / "other").exists()
    assert (second.folder / "src/a.py").stat().st_mode & 0o777 == 0o755
    assert_converged(first, second)


def test_edits_of_different_files_at_once_are_all_kept(pair: tuple[Mounted, Mounted]) -> None:
    first, second = pair

    def work(user: Mounted, name: str) -> None:
        for n in range(100):
            (user.folder / f"{name}-{n}").write_text(f"{name} {n}\n")

    at_once(lambda: work(first, "first"), lambda: work(second, "second"))

    assert_converged(first, second)
    assert len(names(first.folder)) == 203
    assert names(first.folder) == names(second.folder)


def test_edits_of_different_lines_at_once_are_merged(pair: tuple[Mounted, Mounted]) -> None:
    first, second = pair

    at_once(
        lambda: replace(first.folder / "text", "line 2\n", "first\n"),
        lambda: replace(second.folder / "text", "line 25\n", "second\n"),
    )

    assert_converged(first, second)
    expected = TEXT.replace(b"line 2\n", b"first\n").replace(b"line 25\n", b"second\n")
    assert (first.folder / "text").read_bytes() == expected
    assert (second.folder / "text").read_bytes() == expected


def test_edits_of_one_line_at_once_are_a_conflict_shown_on_both_and_resolved_on_one(
    pair: tuple[Mounted, Mounted],
) -> None:
    first, second = pair

    at_once(
        lambda: replace(first.folder / "text", "line 2\n", "by the first\n"),
        lambda: replace(second.folder / "text", "line 2\n", "by the second\n"),
    )
    converge(first, second)

    for user in pair:
        poll(lambda user=user: user.checkout["conflicts"] == ["text"], 5)  # type: ignore[misc]
        shown = (user.folder / "text").read_text()
        assert "<<<<<<<" in shown
        assert "by the first\n" in shown
        assert "by the second\n" in shown
        assert "line 29\n" in shown
        assert (user.folder / "text").stat().st_size == len(shown)

    resolved = TEXT.replace(b"line 2\n", b"by both\n")
    (second.folder / "text").write_bytes(resolved)

    assert_converged(first, second)
    assert (first.folder / "text").read_bytes() == resolved
    assert (second.folder / "text").read_bytes() == resolved


def test_work_beside_a_conflict_keeps_it(pair: tuple[Mounted, Mounted]) -> None:
    first, second = pair
    at_once(
        lambda: replace(first.folder / "text", "line 2\n", "by the first\n"),
        lambda: replace(second.folder / "text", "line 2\n", "by the second\n"),
    )
    converge(first, second)

    (first.folder / "other").write_bytes(b"other work\n")
    converge(first, second)
    first.unmount()
    first.mount()

    for user in pair:
        assert user.checkout["conflicts"] == ["text"]
        assert "by the second\n" in (user.folder / "text").read_text()
        assert (user.folder / "other").read_bytes() == b"other work\n"


def test_a_file_made_twice_is_a_conflict_that_has_both(pair: tuple[Mounted, Mounted]) -> None:
    first, second = pair

    at_once(
        lambda: (first.folder / "made").write_bytes(b"first content\n"),
        lambda: (second.folder / "made").write_bytes(b"second content\n"),
    )
    converge(first, second)

    for user in pair:
        shown = poll(lambda user=user: _conflicted(user, "made"), 5)  # type: ignore[misc]
        assert "first content\n" in shown
        assert "second content\n" in shown


def _conflicted(user: Mounted, name: str) -> str:
    return (user.folder / name).read_text() if user.checkout["conflicts"] == [name] else ""


@pytest.fixture
def parted(
    admin: Administrator, new_mount: Callable[..., Mounted]
) -> Iterator[tuple[Mounted, Mounted, Proxy]]:
    """Two mounts, the second of which can be cut off from the server."""
    repository = admin.repository(
        {"text": TEXT, "other": b"other\n", "src/a.py": b"a\n", "src/deep/b.py": b"b\n"}
    )
    with Proxy(("127.0.0.1", admin.server.port)) as proxy:
        first, second = new_mount(repository), new_mount(repository, url=proxy.url)
        for user in (first, second):
            user.mount()
            assert len(_listing(user)) == 4
        yield first, second, proxy


def meet(proxy: Proxy, *users: Mounted) -> str:
    proxy.use(Pass())
    poll(lambda: all(user.mesa("sync").status == 0 for user in users), 10)
    return converge(*users)


def test_what_is_written_below_a_directory_that_the_other_moves_is_kept(
    parted: tuple[Mounted, Mounted, Proxy],
) -> None:
    first, second, proxy = parted
    proxy.use(Refuse())
    (first.folder / "src").rename(first.folder / "lib")
    (first.folder / "lib/mine").write_bytes(b"mine\n")
    (second.folder / "src/new.py").write_bytes(b"new\n")
    (second.folder / "src/a.py").write_bytes(b"edited\n")
    first.sync()

    meet(proxy, first, second)

    everything = {path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    assert {b"mine\n", b"new\n", b"b\n"} <= everything
    assert any(b"edited\n" in content for content in everything)
    for user in (first, second):
        assert (user.folder / "lib/mine").read_bytes() == b"mine\n"
        assert (user.folder / "lib/deep/b.py").read_bytes() == b"b\n"
    assert _listing(first) == _listing(second)


def _listing(user: Mounted) -> dict[str, bytes]:
    return {
        str(path.relative_to(user.folder)): path.read_bytes()
        for path in sorted(user.folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("deleter", [0, 1], ids=["online", "offline"])
def test_an_edit_of_what_the_other_deletes_is_not_lost(
    parted: tuple[Mounted, Mounted, Proxy], deleter: int
) -> None:
    first, second, proxy = parted
    gone, kept = (first, second) if deleter == 0 else (second, first)
    proxy.use(Refuse())
    (gone.folder / "text").unlink()
    replace(kept.folder / "text", "line 2\n", "edited\n")
    first.sync()

    meet(proxy, first, second)

    for user in (first, second):
        assert poll(lambda user=user: user.checkout["conflicts"], 5) == ["text"]  # type: ignore[misc]
        assert "edited\n" in (user.folder / "text").read_text()
    assert _listing(first) == _listing(second)


def test_a_long_time_apart_loses_nothing(parted: tuple[Mounted, Mounted, Proxy]) -> None:
    first, second, proxy = parted
    proxy.use(Refuse())
    for n in range(20):
        (first.folder / f"first-{n}").write_text(f"{n}\n")
        (second.folder / f"second-{n}").write_text(f"{n}\n")
    replace(first.folder / "text", "line 2\n", "first\n")
    first.sync()
    replace(first.folder / "text", "line 4\n", "first again\n")
    replace(second.folder / "text", "line 20\n", "second\n")
    (second.folder / "src/deep/b.py").unlink()
    (first.folder / "other").unlink()
    first.sync()
    assert second.checkout["unpublished"] > 0

    meet(proxy, first, second)

    assert_converged(first, second)
    assert len(names(first.folder)) == 42
    for changed in (b"first\n", b"first again\n", b"second\n"):
        assert changed in (second.folder / "text").read_bytes()
    assert names(first.folder / "src") == ["a.py"]


def test_a_killed_daemon_and_a_busy_neighbour_converge(
    parted: tuple[Mounted, Mounted, Proxy],
) -> None:
    first, second, proxy = parted
    proxy.use(Refuse())
    replace(second.folder / "text", "line 20\n", "second\n")
    (second.folder / "only-here").write_bytes(b"kept\n")
    second.kill_daemon()
    replace(first.folder / "text", "line 2\n", "first\n")
    first.sync()
    proxy.use(Pass())

    second.mount()

    assert (second.folder / "only-here").read_bytes() == b"kept\n"
    assert_converged(first, second)
    content = (first.folder / "text").read_bytes()
    assert b"first\n" in content
    assert b"second\n" in content
