"""Plain git against a real server: clone and fetch, and what a hostile client gets."""

from __future__ import annotations

import base64
import gzip
import http.client
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mesafs.testing.server import RunningServer
from mesafs.testing.sync_client import SyncClient
from mesafs.wire.sync import RepositoryState

pytestmark = [pytest.mark.system, pytest.mark.compat]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[SyncClient]:
    with SyncClient(server.url, server.admin_key) as client:
        yield client


@pytest.fixture(scope="module")
def state(server: RunningServer, client: SyncClient) -> RepositoryState:
    client.create_repository(server.org, "app")
    return client.publish(client.state(server.org, "app"), {"a.txt": b"a\n", "d/b": b"b\n"}).state


def git(
    *arguments: str, cwd: Path | None = None, key: str | None = None
) -> subprocess.CompletedProcess[str]:
    header = [] if key is None else ["-c", f"http.extraHeader=Authorization: {basic(key)}"]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    return subprocess.run(
        ["git", *header, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{key}".encode()).decode()


def url_of(server: RunningServer, name: str) -> str:
    return f"{server.url}/{server.org}/{name}.git"


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_a_clone_has_the_tree_that_the_server_reports(
    server: RunningServer, state: RepositoryState, tmp_path: Path, version: str
) -> None:
    protocol = ["-c", f"protocol.version={version}"]
    cloned = git(*protocol, "clone", url_of(server, "app"), "c", cwd=tmp_path, key=server.admin_key)

    assert cloned.returncode == 0, cloned.stderr
    tree = git("rev-parse", "HEAD^{tree}", cwd=tmp_path / "c").stdout.strip()
    assert tree == state.tree.hex()
    assert (tmp_path / "c" / "d" / "b").read_bytes() == b"b\n"
    assert git("fsck", "--strict", cwd=tmp_path / "c").returncode == 0
    assert f"change-id {state.change}" in git("cat-file", "-p", "HEAD", cwd=tmp_path / "c").stdout


def test_a_fetch_brings_what_was_published_since(
    server: RunningServer, client: SyncClient, tmp_path: Path
) -> None:
    client.create_repository(server.org, "grows")
    first = client.publish(client.state(server.org, "grows"), {"a": b"1"}, message="import").state
    git("clone", url_of(server, "grows"), "c", cwd=tmp_path, key=server.admin_key)
    second = client.publish(first, {"a": b"2"}).state

    fetched = git("pull", "--ff-only", cwd=tmp_path / "c", key=server.admin_key)

    assert fetched.returncode == 0, fetched.stderr
    head = git("rev-parse", "HEAD", "HEAD^", cwd=tmp_path / "c").stdout.split()
    assert head == [second.commit.hex(), first.commit.hex()]


def test_an_empty_repository_clones_cleanly(
    server: RunningServer, client: SyncClient, tmp_path: Path
) -> None:
    client.create_repository(server.org, "empty")

    cloned = git("clone", url_of(server, "empty"), "c", cwd=tmp_path, key=server.admin_key)

    assert cloned.returncode == 0, cloned.stderr
    assert git("symbolic-ref", "HEAD", cwd=tmp_path / "c").stdout.strip() == "refs/heads/main"


def test_a_conflicted_commit_clones_in_jujutsus_form(
    server: RunningServer, client: SyncClient, tmp_path: Path
) -> None:
    client.create_repository(server.org, "clash")
    base = client.publish(client.state(server.org, "clash"), {"f": b"0\n"}).state
    client.publish(base, {"f": b"1\n"})
    client.publish(base, {"f": b"2\n"}, checkout="other")

    cloned = git("clone", url_of(server, "clash"), "c", cwd=tmp_path, key=server.admin_key)

    assert cloned.returncode == 0, cloned.stderr
    folder = tmp_path / "c"
    sides = [(folder / f".jjconflict-side-{n}" / "f").read_bytes() for n in (0, 1)]
    assert sides == [b"1\n", b"2\n"]
    assert (folder / ".jjconflict-base-0" / "f").read_bytes() == b"0\n"
    header = git("cat-file", "-p", "HEAD", cwd=folder).stdout
    assert header.count("jj:trees ") == 1
    assert git("fsck", "--strict", cwd=folder).returncode == 0


def test_partial_and_shallow_clones_work(
    server: RunningServer, state: RepositoryState, tmp_path: Path
) -> None:
    for number, option in enumerate(["--depth=1", "--filter=blob:none", "--filter=tree:0"]):
        cloned = git(
            "clone", option, "--no-checkout", url_of(server, "app"), f"c{number}",
            cwd=tmp_path, key=server.admin_key,
        )  # fmt: skip
        assert cloned.returncode == 0, cloned.stderr


def test_without_a_credential_git_is_asked_for_one(server: RunningServer, tmp_path: Path) -> None:
    status, headers, _ = raw(
        server, "GET", f"/{server.org}/app.git/info/refs?service=git-upload-pack"
    )

    assert status == 401
    assert headers["www-authenticate"].startswith("Basic ")
    for key in (None, "wrong", server.admin_key[:-1] + "x"):
        refused = git("clone", url_of(server, "app"), "c", cwd=tmp_path, key=key)
        assert refused.returncode != 0


def test_push_is_refused_with_the_reason(
    server: RunningServer, state: RepositoryState, tmp_path: Path
) -> None:
    git("clone", url_of(server, "app"), "c", cwd=tmp_path, key=server.admin_key)

    pushed = git("push", "origin", "HEAD:new", cwd=tmp_path / "c", key=server.admin_key)

    assert pushed.returncode != 0
    assert "does not take `git push` yet" in pushed.stderr


def test_a_key_for_another_repository_finds_nothing(
    server: RunningServer, client: SyncClient, state: RepositoryState, tmp_path: Path
) -> None:
    other = client.create_repository(server.org, "other")
    key = client.call(
        "POST", f"/v1/{server.org}/api-keys", {"name": "one", "repo_ids": [other]}
    ).json["key"]

    assert git("clone", url_of(server, "app"), "c", cwd=tmp_path, key=key).returncode != 0
    assert git("clone", url_of(server, "other"), "o", cwd=tmp_path, key=key).returncode == 0


def raw(
    server: RunningServer,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    key: str | None = None,
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    sent = dict(headers or {})
    if key is not None:
        sent["Authorization"] = basic(key)
    try:
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "app.git/info/refs",
        "app.git/info/refs?service=git-upload-archive",
        "app.git/info/refs?service=git-upload-pack;id",
        "app.git/info/refs?service=git-upload-pack&service=git-upload-pack",
        "app.git/../../x.git/info/refs?service=git-upload-pack",
        "app.git.git/info/refs?service=git-upload-pack",
        "%2e%2e/app.git/info/refs?service=git-upload-pack",
        "app.git/HEAD",
        "app.git/config",
        "app.git/objects/info/packs",
        "app.git/objects/../config",
        "-x.git/info/refs?service=git-upload-pack",
        ".git/info/refs?service=git-upload-pack",
    ],
)
def test_paths_that_are_not_the_smart_protocol_run_nothing(
    server: RunningServer, state: RepositoryState, path: str
) -> None:
    status, _, _ = raw(server, "GET", f"/{server.org}/{path}", key=server.admin_key)

    assert status in {400, 401, 404}


@pytest.mark.parametrize("protocol", ["version=2:--upload-pack=x", "version=3", "x" * 20_000])
def test_a_protocol_header_that_is_not_one_is_not_passed_on(
    server: RunningServer, state: RepositoryState, protocol: str
) -> None:
    status, _, body = raw(
        server,
        "GET",
        f"/{server.org}/app.git/info/refs?service=git-upload-pack",
        headers={"Git-Protocol": protocol},
        key=server.admin_key,
    )

    assert status == 200
    assert body.startswith(b"001e# service=git-upload-pack\n0000")
    assert b"version 2" not in body[:64]


def upload_pack(server: RunningServer, body: bytes, **headers: str) -> tuple[int, bytes]:
    status, _, content = raw(
        server,
        "POST",
        f"/{server.org}/app.git/git-upload-pack",
        body,
        {"Content-Type": "application/x-git-upload-pack-request", **headers},
        server.admin_key,
    )
    return status, content


def pkt(text: str) -> bytes:
    return f"{len(text) + 4:04x}{text}".encode()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"0001", b"0002", b"0003", b"fffg", b"ffff0123456789", b"0000",
        pkt("want " + "ab" * 20 + "\n") + b"0000" + pkt("done\n"),
        pkt("want " + "0" * 40 + "\n") + b"0000" + pkt("done\n"),
    ],
)  # fmt: skip
def test_malformed_pkt_lines_and_unadvertised_wants_give_no_pack(
    server: RunningServer, state: RepositoryState, body: bytes
) -> None:
    status, content = upload_pack(server, body)

    assert status == 200
    assert b"PACK" not in content


def test_an_earlier_commit_that_no_ref_names_is_not_given(
    server: RunningServer, client: SyncClient, state: RepositoryState
) -> None:
    client.create_repository(server.org, "amended")
    first = client.publish(client.state(server.org, "amended"), {"a": b"secret"}).state
    client.publish(first, {"a": b"public"})
    body = pkt(f"want {first.commit.hex()}\n") + b"0000" + pkt("done\n")

    status, _, content = raw(
        server,
        "POST",
        f"/{server.org}/amended.git/git-upload-pack",
        body,
        {"Content-Type": "application/x-git-upload-pack-request"},
        server.admin_key,
    )

    assert status == 200
    assert b"PACK" not in content
    assert b"not our ref" in content


def test_gzip_is_unpacked_within_a_bound(server: RunningServer, state: RepositoryState) -> None:
    want = pkt(f"want {state.commit.hex()} no-progress\n") + b"0000" + pkt("done\n")
    bomb = gzip.compress(bytes(100 << 20), 9)

    good = upload_pack(server, gzip.compress(want), **{"Content-Encoding": "gzip"})
    large = upload_pack(server, bomb, **{"Content-Encoding": "gzip"})
    broken = upload_pack(server, b"not gzip", **{"Content-Encoding": "gzip"})

    assert good[0] == 200
    assert b"PACK" in good[1]
    assert (large[0], broken[0]) == (400, 400)


def test_only_the_simple_filters_are_allowed(
    server: RunningServer, state: RepositoryState, tmp_path: Path
) -> None:
    for value in ("sparse:oid=" + "ab" * 20, "combine:blob:none+tree:1", "object:type=blob"):
        cloned = git(
            "clone", f"--filter={value}", "--no-checkout", url_of(server, "app"), "c",
            cwd=tmp_path, key=server.admin_key,
        )  # fmt: skip
        assert "not supported" in cloned.stderr or cloned.returncode != 0, value
