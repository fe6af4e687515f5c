"""What was synced, or acknowledged by a server, is there after the power was cut."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from mesafs.testing.mount import RunningMount
from mesafs.testing.server import RunningServer
from mesafs.testing.sync_client import SyncClient
from support.kill_rounds import Scene, Tally, repository_folder
from support.plain_git import git, write_tree
from support.polling import poll
from support.power import PowerCutDisk
from support.rest import Rest
from support.seeds import SEED

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.needs("fuse", "root", "loop"),
    pytest.mark.timeout(300),
]

ROUNDS_OF_A_MOUNT = 20
ROUNDS_OF_A_SERVER = 8
_PUBLISHED = {f"published-{number}": bytes([65 + number]) * 20_000 for number in range(4)}


def test_everything_fsynced_in_a_mount_survives_and_no_file_holds_anothers_bytes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    survived = 0
    with RunningServer.start(tmp_path / "server") as server, PowerCutDisk(tmp_path) as disk:
        for number in range(ROUNDS_OF_A_MOUNT):
            try:
                survived += _cut_a_mount(server, disk, tmp_path, number)
            except BaseException as error:
                error.add_note(f"MESA_SEED={SEED}, round {number}")
                raise

    record_property(
        "told at the end",
        f"power cuts of a mount, MESA_SEED={SEED}: {ROUNDS_OF_A_MOUNT} rounds, "
        f"{survived} files had to be there and were",
    )
    assert survived > 0


def _cut_a_mount(server: RunningServer, disk: PowerCutDisk, folder: Path, number: int) -> int:
    """One cut: some files synced, some not, some of them published before. Returns how many synced."""
    random = Random(f"{SEED}/{number}")
    place = folder / f"round-{number}"
    place.mkdir(mode=0o700)
    scene = Scene(server, place, name=f"power-{number}", tally=Tally())
    scene.settings = replace(scene.settings, state=str(disk.path / f"state-{number}"))
    with SyncClient(server.url, server.admin_key) as client:
        client.publish(client.state(server.org, scene.name), _PUBLISHED)
    mount = RunningMount.start(scene.settings)
    try:
        seen = mount.folder(scene.name)
        written = _write(seen, random)
    finally:
        disk.cut()
        assert mount.kill() == -signal.SIGKILL
        scene.close()
    disk.remount()

    mount = RunningMount.start(scene.settings)
    try:
        seen = mount.folder(scene.name)
        found = {
            str(path.relative_to(seen)): path.read_bytes()
            for path in seen.rglob("*")
            if path.is_file()
        }
        for path, wanted in written.items():
            wanted.check(path, found.pop(path, None))
        assert not found, f"invented: {sorted(found)}"
        poll(lambda: mount.call("sync") and mount.unpublished() == 0, 20, what="published")
        (status,) = mount.call("status")["repositories"]
        assert write_tree(seen) == status["tree"]
    finally:
        mount.kill()
        scene.close()
    return sum(wanted.safe is not None for wanted in written.values())


@dataclass
class Wanted:
    """A file's bytes, and how many of the first are safe; None: it may even be gone."""

    content: bytes
    safe: int | None

    def check(self, path: str, found: bytes | None) -> None:
        """Bytes that were not synced may be missing or, as on any ext4, zero; nobody else's."""
        if found is None:
            assert self.safe is None, f"{path} is gone"
            return
        safe = self.safe or 0
        assert safe <= len(found) <= len(self.content), f"{path} has {len(found)} bytes"
        assert found[:safe] == self.content[:safe], f"{path}: safe bytes are not what they were"
        pairs = zip(found, self.content, strict=False)
        assert all(one in (0, other) for one, other in pairs), f"{path} has bytes of another"


def _write(folder: Path, random: Random) -> dict[str, Wanted]:
    """Write some files, sync some of them; what is to be found after a cut."""
    written = {name: Wanted(data, len(data)) for name, data in _PUBLISHED.items()}
    for step in range(random.randrange(5, 15)):
        name, content = f"f{step}", _content(random, step)
        sync = random.random() < 0.5
        match random.randrange(4):
            case 0:
                _put(folder / name, content, sync=sync)
            case 1:  # the careful way: aside, synced, renamed, and the directory synced
                (folder / f"d{step}").mkdir()
                name = f"d{step}/{name}"
                _put(folder / f"{name}.new", content, sync=sync)
                (folder / f"{name}.new").rename(folder / name)
                if sync:
                    _sync_directory(folder / f"d{step}")
                else:
                    written[f"{name}.new"] = Wanted(content, None)
            case 2:  # a published file is changed at its end
                name = random.choice(sorted(_PUBLISHED))
                with (folder / name).open("ab") as file:
                    file.write(content)
                    if sync:
                        file.flush()
                        os.fsync(file.fileno())
                before = written[name]
                content = before.content + content
                written[name] = Wanted(content, len(content) if sync else before.safe)
                continue
            case _:  # a directory is renamed with a file in it
                (folder / f"old{step}").mkdir()
                _put(folder / f"old{step}" / name, content, sync=False)
                (folder / f"old{step}").rename(folder / f"new{step}")
                if not sync:
                    written[f"old{step}/{name}"] = Wanted(content, None)
                name = f"new{step}/{name}"
                if sync:
                    with (folder / name).open("rb") as file:
                        os.fsync(file.fileno())
        written[name] = Wanted(content, len(content) if sync else None)
    return written


def _content(random: Random, step: int) -> bytes:
    return bytes([97 + step]) * random.choice([1, 100, 5000, 50_000])


def _put(path: Path, content: bytes, *, sync: bool) -> None:
    with path.open("xb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def test_everything_a_server_acknowledged_survives(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    acknowledged = 0
    with PowerCutDisk(tmp_path, size_mb=96) as disk:
        for number in range(ROUNDS_OF_A_SERVER):
            try:
                acknowledged += _cut_a_server(disk, number)
            except BaseException as error:
                error.add_note(f"MESA_SEED={SEED}, round {number}")
                raise

    record_property(
        "told at the end",
        f"power cuts of a server, MESA_SEED={SEED}: {ROUNDS_OF_A_SERVER} rounds, "
        f"{acknowledged} acknowledged mutations, all there",
    )


def _cut_a_server(disk: PowerCutDisk, number: int) -> int:
    random = Random(f"{SEED}/{number}")
    data = disk.path / f"server-{number}"
    changes: list[dict[str, object]] = []
    publishes = []
    with RunningServer.start(data) as server:
        admin_key = server.admin_key
        with (
            Rest(server.api_url, server.org, admin_key) as rest,
            SyncClient(server.url, admin_key) as client,
        ):
            repository = client.create_repository(server.org, "app")
            for call in range(random.randrange(1, 8)):
                content = random.randbytes(random.randrange(30_000))
                if random.random() < 0.5:
                    changes.append(rest.change("app", {f"c{call}": content}))
                else:
                    state = client.state(server.org, "app")
                    tree = client.send_files(repository, {f"p{call}": content})
                    request = client.request(state, tree)
                    answer = client.send_publish(repository, request)
                    assert answer.status == 200, answer
                    publishes.append((request, answer.json))
            before = client.state(server.org, "app")
        disk.cut()
        server.kill()
    disk.remount()
    with RunningServer.start(data) as server:
        assert server.admin_key == admin_key
        with (
            Rest(server.api_url, server.org, admin_key) as rest,
            SyncClient(server.url, admin_key) as client,
        ):
            assert client.state(server.org, "app") == before
            for change in changes:
                kept = rest.get(f"/{server.org}/app/changes/{change['id']}", expect=200).json()
                if change["id"] != before.change:  # that one a publish may have amended
                    assert kept["current_commit_oid"] == change["current_commit_oid"]
            for request, answer in publishes:
                assert client.send_publish(repository, request).json == answer
    git("fsck", "--strict", cwd=repository_folder(server, repository))
    return len(changes) + len(publishes)
