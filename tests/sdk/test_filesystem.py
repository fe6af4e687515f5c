"""A repository edited inside this process, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesafs.sdk.filesystem import Filesystem
from mesafs.sdk.server_url import parse_url
from mesafs.sdk.sync_api import SyncApi
from mesafs.sdk.transport_http import HttpTransport
from mesafs.sync import Mesa
from mesafs.testing.server import RunningServer


@pytest.mark.system
def test_edits_of_one_process_are_read_by_another(tmp_path: Path) -> None:
    with (
        RunningServer.start(tmp_path / "data", org="acme") as server,
        HttpTransport(parse_url(server.url), credential=server.admin_key) as transport,
    ):
        with Mesa(api_key=server.admin_key, api_url=server.url, org="acme") as mesa:
            mesa.repos.create(name="app")
        api = SyncApi(transport)
        with Filesystem(api, "acme", "app", folder=tmp_path / "one") as one:
            one.mkdir("src/deep", parents=True)
            one.write("src/deep/a.txt", b"hello")
            one.symlink("link", "src/deep/a.txt")
            one.rename("src/deep", "src/deeper")
            one.sync()
            tree = one.tree

        with Filesystem(api, "acme", "app", folder=tmp_path / "two") as two:
            assert two.listdir("src") == ["deeper"]
            assert two.read("src/deeper/a.txt") == b"hello"
            assert two.read("link") == b"src/deep/a.txt"
            assert two.tree == tree
            with pytest.raises(FileNotFoundError):
                two.read("src/deep/a.txt")


@pytest.mark.system
def test_edits_that_were_not_synced_are_there_when_the_folder_is_opened_again(
    tmp_path: Path,
) -> None:
    with (
        RunningServer.start(tmp_path / "data", org="acme") as server,
        HttpTransport(parse_url(server.url), credential=server.admin_key) as transport,
    ):
        with Mesa(api_key=server.admin_key, api_url=server.url, org="acme") as mesa:
            mesa.repos.create(name="app")
        api = SyncApi(transport)
        with Filesystem(api, "acme", "app", folder=tmp_path / "one") as one:
            one.write("a", b"1")

        with Filesystem(api, "acme", "app", folder=tmp_path / "one") as again:
            assert again.read("a") == b"1"
            again.sync()
            assert not again.exists("b")
