"""What ``mesa status`` tells: is my work safe, and if not, why."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from mesafs.base.clock import Clock
from mesafs.model.paths import to_text
from mesafs.mount.sync.credential import Access
from mesafs.mount.sync.remote import Server
from mesafs.mount.sync.worker import Worker


def describe(
    mount_point: str,
    api_url: str,
    organisation: str,
    access: Access,
    server: Server,
    workers: Iterable[Worker],
    *,
    connected: bool,
    requests: dict[str, int],
    clock: Clock,
) -> dict[str, Any]:
    """The answer of the control verb ``status``: plain JSON, no credential in it."""
    return {
        "mount_point": mount_point,
        "pid": os.getpid(),
        "server": api_url,
        "reachable": server.unreachable is None,
        "unreachable": server.unreachable,
        "connected": connected,
        "organisation": organisation,
        "credential": {
            "state": access.state.value,
            "reason": access.reason,
            "expires_at": access.expires_at_seconds,
        },
        "repositories": [_repository(worker, clock) for worker in workers],
        "requests": requests,
    }


def _repository(worker: Worker, clock: Clock) -> dict[str, Any]:
    checkout = worker.checkout
    unpublished = worker.unpublished()
    since = worker.dirty_since
    with checkout.lock:
        local = [node.path() for node in checkout.unversioned.values() if node.local]
        large = [node.path() for node in checkout.writing.values() if node.oid is None]
    return {
        "name": worker.name,
        "bookmark": checkout.base.bookmark,
        "change": checkout.base.change,
        "commit": checkout.base.commit.hex(),
        "tree": checkout.base.tree.hex(),
        "read_only": checkout.read_only,
        "unpublished": unpublished,
        "pending_seconds": None
        if not unpublished or since is None
        else round(clock.monotonic() - since, 1),
        "open_and_unpublished": sorted(to_text(path) for path in large)[:20],
        "local_only": len(local),
        "local_names": sorted(to_text(path) for path in local)[:20],
        "conflicts": sorted(to_text(path) for path in checkout.base.conflicts),
        "problem": worker.problem,
    }
