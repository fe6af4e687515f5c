"""The thread that keeps a checkout and its bookmark together."""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mesafs.base.clock import SystemClock
from mesafs.base.files import Files
from mesafs.checkout.checkout import Checkout
from mesafs.checkout.journal import Identity
from mesafs.checkout.ports import NoInvalidations
from mesafs.checkout.recovery import Settings, open_checkout
from mesafs.model.ids import PublishId
from mesafs.mount.sync.worker import Worker
from mesafs.testing.bookmark import MemoryBookmark
from mesafs.wire.sync import PublishAnswer, PublishRequest


class ExtendingBookmark(MemoryBookmark):
    """As a server does, it counts the publishes of one checkout in a row as one operation."""

    def publish(self, request: PublishRequest) -> PublishAnswer:
        answer = super().publish(request)
        self.state = replace(self.state, operation=2)
        return replace(answer, state=replace(answer.state, operation=2))


def write(checkout: Checkout, name: bytes, content: bytes) -> None:
    with checkout.lock:
        node = checkout.lookup(checkout.root, name)
        if node is None:
            node, fd = checkout.create(checkout.root, name, 0o644)
        else:
            fd = checkout.open(node, writing=True, truncate=True)
        os.pwrite(fd, content, 0)
        os.close(fd)
        checkout.written(node)


def read(checkout: Checkout, name: bytes) -> bytes:
    with checkout.lock:
        node = checkout.lookup(checkout.root, name)
        assert node is not None
        fd = checkout.open(node, writing=False)
    try:
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("between", [0, 1])
def test_a_state_that_arrives_after_this_checkout_has_come_past_it_changes_nothing(
    tmp_path: Path, between: int
) -> None:
    bookmark = ExtendingBookmark(tmp_path)
    checkout = open_checkout(
        Settings(str(tmp_path / "state"), str(tmp_path / "cache")),
        Identity(b"repo_test", b"desk"),
        bookmark.state,
        bookmark,
        files=Files(),
        clock=SystemClock(),
        first_number=1,
        lock=threading.RLock(),
        inodes={},
        invalidations=NoInvalidations(),
    )
    numbers = itertools.count()

    def new_id() -> PublishId:
        return PublishId(f"publish-{next(numbers)}")

    worker = Worker("acme/app", checkout, bookmark, bookmark, clock=SystemClock(), new_id=new_id)
    worker.start()
    write(checkout, b"a", b"1")
    worker.sync(seconds=10)
    late = bookmark.state
    for number in range(between):
        write(checkout, b"a", b"between %d" % number)
        worker.sync(seconds=10)
    write(checkout, b"a", b"last")

    worker.moved(late)
    worker.sync(seconds=10)

    assert read(checkout, b"a") == b"last"
    assert checkout.base.commit == bookmark.state.commit
    worker.stop()
    worker.join(10)
    checkout.journal.close()
    checkout.attributes.close()
