"""How much a mount asks of its server, by the server's own counters."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.request import urlopen

import pytest

from mesafs.testing.proxy import Cut, Pass, Proxy, Refuse
from support.mounts import Administrator, Mounted, Repository, names
from support.polling import poll

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.needs("fuse")]

FILES, FOLDERS, SIZE_BYTES = 20_000, 200, 10_000
_LINE = re.compile(r'mesa_(\w+)_total\{operation="([^"]+)"[^}]*\} (\d+)')


@dataclass(frozen=True)
class Traffic:
    """Finished requests by operation, and all bytes both ways."""

    requests: dict[str, int]
    total_bytes: int

    @classmethod
    def of(cls, admin: Administrator) -> Traffic:
        with urlopen(f"{admin.server.url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        requests: dict[str, int] = {}
        total = 0
        for kind, operation, count in _LINE.findall(text):
            if "metrics" in operation or "health" in operation:
                continue
            if kind == "requests":
                requests[operation] = requests.get(operation, 0) + int(count)
            else:
                total += int(count)
        return cls(requests, total)

    def since(self, before: Traffic) -> Traffic:
        grown = {
            operation: count - before.requests.get(operation, 0)
            for operation, count in self.requests.items()
            if count != before.requests.get(operation, 0)
        }
        return Traffic(grown, self.total_bytes - before.total_bytes)

    @property
    def count(self) -> int:
        return sum(self.requests.values())


@pytest.fixture(scope="module")
def large(admin: Administrator, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """20,000 files in 200 folders, 200 MB that do not compress well."""
    folder = tmp_path_factory.mktemp("large") / "tree"
    for n in range(FILES):
        place = folder / f"group{n % 10}/folder{n % FOLDERS}"
        if n < FOLDERS:
            place.mkdir(parents=True)
        (place / f"file-{n}").write_bytes(content_of(n))
    return admin.repository(folder)


def content_of(n: int) -> bytes:
    """Half of it noise, half of it words."""
    noise = hashlib.shake_128(b"%d" % n).digest(SIZE_BYTES // 2)
    return noise + (b"line of file %06d\n" % n) * (SIZE_BYTES // 2 // 20)


def test_looking_at_a_large_repository_moves_only_what_is_looked_at(
    admin: Administrator, large: Repository, new_mount: Callable[..., Mounted]
) -> None:
    user = new_mount(large)
    start = Traffic.of(admin)

    user.mount()
    assert len(names(user.folder)) == 10
    assert len(names(user.folder / "group3")) == FOLDERS // 10
    assert len(names(user.folder / "group3/folder13")) == FILES // FOLDERS
    assert (user.folder / "group3/folder13/file-13").read_bytes() == content_of(13)

    moved = Traffic.of(admin).since(start)
    assert moved.count < 20, moved
    assert moved.total_bytes < 3_000_000, moved

    again = Traffic.of(admin)
    assert (user.folder / "group3/folder13/file-13").read_bytes() == content_of(13)
    assert names(user.folder / "group3/folder13")
    assert Traffic.of(admin).since(again).count == 0


def test_an_idle_mount_asks_nothing_but_keeps_its_event_stream(
    admin: Administrator, mounted: Mounted
) -> None:
    names(mounted.folder)
    assert (mounted.folder / "README.md").read_bytes() == b"# Example\n"
    poll(lambda: mounted.status["connected"], 5)
    before = Traffic.of(admin)
    end = time.monotonic() + 10

    poll(lambda: time.monotonic() > end or Traffic.of(admin).since(before).count, 15)

    assert Traffic.of(admin).since(before).requests == {}
    assert mounted.status["connected"] is True


def test_a_thousand_edited_files_are_published_in_three_requests(
    admin: Administrator, large: Repository, new_mount: Callable[..., Mounted]
) -> None:
    with Proxy(("127.0.0.1", admin.server.port)) as proxy:
        user = new_mount(large, url=proxy.url)
        user.mount()
        folders = [user.folder / f"group4/folder{n}" for n in range(4, 104, 10)]
        paths = [folder / name for folder in folders for name in names(folder)]
        before, published = Traffic.of(admin), large.operation
        proxy.use(
            Refuse()
        )  # so that however slow this machine is, nothing goes before all is there
        for path in paths:
            path.write_bytes(b"edited %s\n" % path.name.encode())
        proxy.use(Pass())
        poll(lambda: user.checkout["unpublished"] == 0, 20)
        spent = Traffic.of(admin).since(before).requests

    assert len(paths) == 1000
    assert large.operation == published + 1
    assert spent.pop("syncEvents", 0) <= 2, "opened anew, since it was cut"
    spent.pop("syncResolve")  # this test's own questions
    assert sum(spent.values()) <= 3, spent


def test_a_publish_whose_answer_is_cut_off_is_repeated_and_leaves_one_operation(
    admin: Administrator, new_mount: Callable[..., Mounted]
) -> None:
    repository = admin.repository({"file": b"content\n"})
    with Proxy(("127.0.0.1", admin.server.port)) as proxy:
        user = new_mount(repository, url=proxy.url)
        user.mount()
        assert (user.folder / "file").read_bytes() == b"content\n"
        operation, before = repository.operation, Traffic.of(admin)
        # The answer to the pack fits into that; the answer to the publish does not.
        proxy.use(Cut(300, times=3))
        (user.folder / "file").write_bytes(b"edited\n")
        user.assert_published()

    assert Traffic.of(admin).since(before).requests["syncPublish"] >= 2
    assert repository.operation == operation + 1
