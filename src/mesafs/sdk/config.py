"""What a client is told from outside: flags, environment, configuration files, in that order.

``ClientConfig.load(flags, environ)`` is used by the command line, the mount and the SDK alike:

- flags (values that a command's arguments gave);
- ``MESA_*`` in ``environ``: MESA_API_KEY, MESA_API_KEY_FILE, MESA_API_URL, MESA_ORG,
  MESA_MOUNT_POINT, MESA_CA_FILE, MESA_REPO_REVS, MESA_UID, MESA_GID, MESA_CACHE_ENABLED,
  MESA_CACHE_PATH, MESA_CACHE_MAX_SIZE, MESA_DAEMON_LOG_FILE, MESA_RUNTIME_DIR, MESA_NO_CONFIG_FILE;
- the file named by ``--config-path`` alone, or else the user's file over ``/etc/mesa/config.toml``.

Each value remembers where it came from (``sources``). A credential is never shown in a repr.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesafs.base.errors import Invalid
from mesafs.sdk.errors import MissingCredentialError
from mesafs.sdk.repo_spec import RepoSpec, parse_repo_spec
from mesafs.sdk.server_url import DEFAULT_API_URL, ServerUrl, parse_url

SYSTEM_FILE = Path("/etc/mesa/config.toml")
DEFAULT_CACHE_BYTES = 2 << 30
MAX_CREDENTIAL_BYTES = 8192


def environment() -> Mapping[str, str]:
    """The environment of this process: read here and nowhere else in the client."""
    return os.environ


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line may say. None: not said."""

    config_path: Path | None = None
    api_url: str | None = None
    org: str | None = None
    mount_point: Path | None = None
    ca_file: Path | None = None
    api_key_file: Path | None = None
    repositories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Settings of one client. Paths are absolute; ``credential`` may be missing until it is needed."""

    api_url: ServerUrl
    credential: str | None = field(repr=False)
    credential_file: Path | None
    org: str | None
    mount_point: Path
    ca_file: Path | None
    repositories: tuple[RepoSpec, ...]
    uid: int | None
    gid: int | None
    cache_enabled: bool
    cache_path: Path
    cache_max_bytes: int
    state_path: Path
    runtime_path: Path | None
    log_file: Path | None
    files: tuple[Path, ...]
    sources: Mapping[str, str]

    @classmethod
    def load(cls, flags: Flags, environ: Mapping[str, str]) -> ClientConfig:
        """Gather everything, or raise ``Invalid`` naming the setting and where it was made."""
        return _Loader(flags, environ).load()

    def require_credential(self) -> str:
        if self.credential is None:
            raise MissingCredentialError
        return self.credential


class _Loader:
    def __init__(self, flags: Flags, environ: Mapping[str, str]) -> None:
        self._flags = flags
        self._environ = environ
        self._home = Path(environ.get("HOME") or "~").expanduser()
        self._files = list(self._read_files())
        self._sources: dict[str, str] = {}

    def load(self) -> ClientConfig:
        flags = self._flags
        org = self._text("org", flags.org, "MESA_ORG", "org") or self._only_organisation()
        credential_file = self._path(
            "api-key-file", flags.api_key_file, "MESA_API_KEY_FILE", "api-key-file"
        )
        cache_home = self._xdg("XDG_CACHE_HOME", ".cache")
        state_home = self._xdg("XDG_STATE_HOME", ".local/state")
        default_mount_point = self._home / "mesa" / "mnt"
        return ClientConfig(
            api_url=parse_url(
                self._text("api-url", flags.api_url, "MESA_API_URL", "api-url") or DEFAULT_API_URL
            ),
            credential=self._credential(credential_file, org),
            credential_file=credential_file,
            org=org,
            mount_point=self._path(
                "mount-point", flags.mount_point, "MESA_MOUNT_POINT", "mount-point"
            )
            or default_mount_point,
            ca_file=self._path("ca-file", flags.ca_file, "MESA_CA_FILE", "ca-file"),
            repositories=self._repositories(org),
            uid=self._number("uid", "MESA_UID", "uid"),
            gid=self._number("gid", "MESA_GID", "gid"),
            cache_enabled=self._flag("cache.enabled", "MESA_CACHE_ENABLED", default=True),
            cache_path=self._path("cache.path", None, "MESA_CACHE_PATH", "cache.path")
            or cache_home / "mesa",
            cache_max_bytes=self._size(
                "cache.max-size", "MESA_CACHE_MAX_SIZE", default=DEFAULT_CACHE_BYTES
            ),
            state_path=state_home / "mesa",
            runtime_path=self._path("runtime-dir", None, "MESA_RUNTIME_DIR", "runtime-dir"),
            log_file=self._path("daemon.log", None, "MESA_DAEMON_LOG_FILE", "daemon.log"),
            files=tuple(path for path, _ in self._files),
            sources=dict(self._sources),
        )

    def _read_files(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Configuration files, the strongest first."""
        if self._flags.config_path is not None:
            yield self._flags.config_path, _read_toml(self._flags.config_path, required=True)
            return
        if self._environ.get("MESA_NO_CONFIG_FILE", "").lower() in {"1", "true", "yes"}:
            return
        for path in (self._xdg("XDG_CONFIG_HOME", ".config") / "mesa/config.toml", SYSTEM_FILE):
            if values := _read_toml(path, required=False):
                yield path, values

    def _xdg(self, variable: str, below_home: str) -> Path:
        path = Path(self._environ.get(variable) or "")
        return path if path.is_absolute() else self._home / below_home

    def _text(self, name: str, flag: str | None, variable: str, key: str) -> str | None:
        if flag is not None:
            self._sources[name] = "the command line"
            return flag
        if value := self._environ.get(variable, "").strip():
            self._sources[name] = variable
            return value
        for path, values in self._files:
            found: Any = values
            for part in key.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found is not None:
                if not isinstance(found, str | int | bool):
                    raise Invalid(f"{key} in {path} is not a plain value")
                self._sources[name] = str(path)
                return str(found)
        return None

    def _path(self, name: str, flag: Path | None, variable: str, key: str) -> Path | None:
        text = self._text(name, None if flag is None else str(flag), variable, key)
        if text is None:
            return None
        if text == "~" or text.startswith("~/"):
            return self._home / text[2:]
        return Path.cwd() / text

    def _number(self, name: str, variable: str, key: str) -> int | None:
        text = self._text(name, None, variable, key)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and int(text) < 1 << 32):
            raise Invalid(f"{name} ({self._sources[name]}) is not a user or group number")
        return int(text)

    def _flag(self, name: str, variable: str, *, default: bool) -> bool:
        text = self._text(name, None, variable, name)
        if text is None:
            return default
        if text.lower() not in _TRUTH:
            raise Invalid(f"{name} ({self._sources[name]}) is not true or false")
        return _TRUTH[text.lower()]

    def _size(self, name: str, variable: str, *, default: int) -> int:
        text = self._text(name, None, variable, name)
        if text is None:
            return default
        number = text.rstrip("kKmMgGtTiIbB ")
        unit = text[len(number) :].strip().lower().rstrip("b").rstrip("i")
        if not (number.isascii() and number.isdigit() and unit in _UNITS):
            raise Invalid(
                f"{name} ({self._sources[name]}) is not a size", hint="write it like 512MB or 2GB"
            )
        return int(number) << _UNITS[unit]

    def _credential(self, file: Path | None, org: str | None) -> str | None:
        if value := self._environ.get("MESA_API_KEY", "").strip():
            self._sources["api-key"] = "MESA_API_KEY"
            return value
        if file is not None:
            self._sources["api-key"] = str(file)
            return read_credential(file)
        for path, values in self._files:
            key = _table(_table(values, "organizations", path), org or "", path).get("api-key")
            if isinstance(key, str) and key.strip():
                self._sources["api-key"] = str(path)
                return key.strip()
        return None

    def _only_organisation(self) -> str | None:
        for path, values in self._files:
            if len(names := list(_table(values, "organizations", path))) == 1:
                self._sources["org"] = str(path)
                return str(names[0])
        return None

    def _repositories(self, org: str | None) -> tuple[RepoSpec, ...]:
        if self._flags.repositories:
            self._sources["repositories"] = "the command line"
            return tuple(parse_repo_spec(text) for text in self._flags.repositories)
        if value := self._environ.get("MESA_REPO_REVS", "").strip():
            self._sources["repositories"] = "MESA_REPO_REVS"
            return tuple(parse_repo_spec(each.strip()) for each in value.split(","))
        for path, values in self._files:
            organisation = _table(_table(values, "organizations", path), org or "", path)
            repos = _table(organisation, "repos", path)
            if repos:
                self._sources["repositories"] = str(path)
                return tuple(
                    RepoSpec(org, name, _bookmark(_table(repos, name, path))) for name in repos
                )
        return ()


_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def read_credential(file: Path) -> str:
    """The one line of a credential file."""
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_CREDENTIAL_BYTES + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not plain text"
        raise Invalid(f"the credential file {file} cannot be read: {why}") from None
    if not text or len(text) > MAX_CREDENTIAL_BYTES or any(char.isspace() for char in text):
        raise Invalid(
            f"the credential file {file} does not hold one API key or token",
            hint="the file holds the key or token alone, on one line",
        )
    return text


def _read_toml(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not required:
            return {}
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise Invalid(f"the configuration file {path} cannot be read: {why}") from None
    import tomllib  # noqa: PLC0415 - only a client that has a file pays for its reader

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"the configuration file {path} is not TOML: {error}") from None


def _table(values: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = values.get(name, {})
    if not isinstance(found, dict):
        raise Invalid(f"{name} in {path} is not a table")
    return found


def _bookmark(repository: dict[str, Any]) -> str | None:
    revision = repository.get("rev")
    if isinstance(revision, dict) and isinstance(revision.get("bookmark"), str):
        return str(revision["bookmark"])
    return None
