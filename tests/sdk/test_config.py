"""Where settings come from, and which wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesafs.base.errors import Invalid
from mesafs.sdk.config import ClientConfig, Flags, read_credential
from mesafs.sdk.errors import InvalidApiUrlError, MissingCredentialError
from mesafs.sdk.repo_spec import RepoSpec, parse_repo_spec
from mesafs.sdk.server_url import parse_url


def user_file(home: Path, text: str) -> Path:
    path = home / ".config/mesa/config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(home: Path, flags: Flags | None = None, **environ: str) -> ClientConfig:
    return ClientConfig.load(flags or Flags(), {"HOME": str(home), **environ})


def test_without_any_setting_there_are_defaults_and_no_credential(tmp_path: Path) -> None:
    config = load(tmp_path)

    assert str(config.api_url) == "http://127.0.0.1:8080"
    assert config.mount_point == tmp_path / "mesa/mnt"
    assert config.state_path == tmp_path / ".local/state/mesa"
    with pytest.raises(MissingCredentialError, match="no API key"):
        config.require_credential()


def test_flag_wins_over_environment_wins_over_file(tmp_path: Path) -> None:
    path = user_file(tmp_path, 'api-url = "http://file"\norg = "file"\nmount-point = "~/file"')

    config = load(tmp_path, Flags(api_url="http://flag"), MESA_API_URL="http://env", MESA_ORG="env")

    assert (str(config.api_url), config.org) == ("http://flag", "env")
    assert config.mount_point == tmp_path / "file"
    assert config.sources == {
        "api-url": "the command line",
        "org": "MESA_ORG",
        "mount-point": str(path),
    }


def test_a_named_file_replaces_the_users(tmp_path: Path) -> None:
    user_file(tmp_path, 'org = "user"')
    named = tmp_path / "named.toml"
    named.write_text('api-url = "http://named"')

    config = load(tmp_path, Flags(config_path=named))

    assert (str(config.api_url), config.org) == ("http://named", None)


def test_files_can_be_ignored(tmp_path: Path) -> None:
    user_file(tmp_path, 'org = "user"')

    assert load(tmp_path, MESA_NO_CONFIG_FILE="true").org is None


def test_the_older_form_with_a_table_for_each_organisation_is_read(tmp_path: Path) -> None:
    user_file(
        tmp_path,
        '[organizations.acme]\napi-key = "mesa_live_x"\n'
        '[organizations.acme.repos.app]\nrev = { bookmark = "dev" }\n',
    )

    config = load(tmp_path)

    assert (config.org, config.credential) == ("acme", "mesa_live_x")
    assert config.repositories == (RepoSpec("acme", "app", "dev"),)


def test_a_credential_file_is_read_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("mesa_live_x\n")

    config = load(tmp_path, MESA_API_KEY_FILE=str(file))

    assert config.require_credential() == "mesa_live_x"
    assert "mesa_live_x" not in repr(config)


@pytest.mark.parametrize("text", ["", "a b", "a\nb", "é", "x" * 9000])
def test_a_credential_file_with_something_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)

    with pytest.raises(Invalid, match=str(file)):
        read_credential(file)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"MESA_UID": "root"}, r"uid \(MESA_UID\)"),
        ({"MESA_CACHE_MAX_SIZE": "big"}, r"cache.max-size \(MESA_CACHE_MAX_SIZE\)"),
        ({"MESA_CACHE_ENABLED": "perhaps"}, "cache.enabled"),
        ({"MESA_API_URL": "ftp://x"}, "http://"),
        ({"MESA_REPO_REVS": "acme/app=tag:x"}, "acme/app=tag:x"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(
    tmp_path: Path, environ: dict[str, str], names: str
) -> None:
    with pytest.raises(Invalid, match=names):
        load(tmp_path, **environ)


@pytest.mark.parametrize("text", ["= 1", 'organizations = "x"', "\xff"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = user_file(tmp_path, "")
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(Invalid, match=str(path)):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 1 << 30), ("256MB", 256 << 20), ("4k", 4096), ("10", 10), ("2GiB", 2 << 30)],
)
def test_sizes_are_read_with_their_units(tmp_path: Path, text: str, size: int) -> None:
    assert load(tmp_path, MESA_CACHE_MAX_SIZE=text).cache_max_bytes == size


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("acme/app", RepoSpec("acme", "app")),
        ("app", RepoSpec(None, "app")),
        ("acme/app=bookmark:feat/x", RepoSpec("acme", "app", "feat/x")),
    ],
)
def test_repositories_are_named_with_a_bookmark(text: str, spec: RepoSpec) -> None:
    assert parse_repo_spec(text) == spec


@pytest.mark.parametrize("text", ["", "/", "acme/", "/app", "a/b/c", "a/b=", "a/b=bookmark:"])
def test_what_names_no_repository_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="does not name a repository"):
        parse_repo_spec(text)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("http://host:8080/v1", "http://host:8080"),
        ("https://host", "https://host"),
        ("https://host:443/mesa/v1/", "https://host/mesa"),
        (" http://[::1]:80/ ", "http://[::1]"),
    ],
)
def test_an_address_is_the_same_with_and_without_v1(text: str, whole: str) -> None:
    assert str(parse_url(text)) == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "file:///x",
        "http://",
        "http://u:p@host",
        "http://h?x=1",
        "http://h:x",
        "http://h h",
    ],
)
def test_an_address_that_is_none_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(InvalidApiUrlError) as caught:
        parse_url(text)

    assert "u:p" not in str(caught.value)
