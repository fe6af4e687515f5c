"""Mounts by the real command line on a real server; whatever a test leaves is ended here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from mesafs.testing.server import RunningServer
from support.mounts import Administrator, Mounted, Repository

#: Below the user's home.
NOWHERE = Path()

MakeMount = Callable[..., Mounted]


@pytest.fixture(scope="session")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administrator]:
    """A server shared by all tests of a run; each makes a repository of its own."""
    with RunningServer.start(tmp_path_factory.mktemp("server") / "data") as server:
        administrator = Administrator(server)
        yield administrator
        administrator.close()


@pytest.fixture
def own_admin(tmp_path: Path) -> Iterator[Administrator]:
    """A server of this test alone, which it may kill."""
    server = RunningServer.start(tmp_path / "server")
    administrator = Administrator(server)
    yield administrator
    administrator.close()
    administrator.server.kill()


@pytest.fixture
def new_mount(tmp_path: Path) -> Iterator[MakeMount]:
    """Prepares a user with a mount point; the test mounts. Each has a home of its own."""
    made: list[Mounted] = []

    def make(
        repository: Repository,
        *options: str,
        credential: str | None = None,
        url: str | None = None,
        state_home: Path = NOWHERE,
    ) -> Mounted:
        user = Mounted(
            repository,
            tmp_path / f"home-{len(made)}",
            repository.admin.token(repository) if credential is None else credential,
            repository.admin.server.url if url is None else url,
            options,
            state_home,
        )
        made.append(user)
        return user

    yield make
    for user in made:
        user.end()


@pytest.fixture
def content() -> Mapping[str, bytes]:
    """What ``mounted`` starts with."""
    return {
        "README.md": b"# Example\n",
        "src/main.py": b"print('hello')\n",
        "src/deep/er/data.txt": b"".join(b"line %d\n" % n for n in range(100)),
    }


@pytest.fixture
def mounted(admin: Administrator, new_mount: MakeMount, content: Mapping[str, bytes]) -> Mounted:
    """A repository with ``content``, mounted."""
    user = new_mount(admin.repository(content))
    user.mount()
    return user


@pytest.fixture(params=["passthrough", "carried"])
def both_ways(
    request: pytest.FixtureRequest,
    admin: Administrator,
    new_mount: MakeMount,
    content: Mapping[str, bytes],
) -> Mounted:
    """The same, once with reads and writes passed to the disk, once carried by the daemon."""
    options = () if request.param == "passthrough" else ("--no-passthrough",)
    user = new_mount(admin.repository(content), *options)
    user.mount()
    return user
