"""Settings of a server: from the command line first, then the environment, then defaults."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesafs.base.errors import Invalid
from mesafs.base.files import Files

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_ORGANISATION = "my-org"

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: First path segments of the server itself.
RESERVED_SLUGS = frozenset(
    {"v1", "sync", "healthz", "readyz", "metrics", "static", "whoami", "mcp", "api", "install"}
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server was started with. ``public_url`` is how others reach it, if that is known."""

    data_dir: Path
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    organisation: str | None = None
    admin_key_file: Path | None = None
    public_url: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    server_secret_file: Path | None = None
    drain_seconds: int = 20

    @property
    def base_url(self) -> str:
        """Where this server is, as install script and clone URLs name it."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        scheme = "http" if self.tls_cert is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def data_dir_from(environ: Mapping[str, str]) -> Path:
    """``MESA_DATA_DIR``, or a folder of this user."""
    if stated := environ.get("MESA_DATA_DIR"):
        return Path(stated)
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "mesa" / "server"


def server_secret_file_from(environ: Mapping[str, str]) -> Path | None:
    stated = environ.get("MESA_SERVER_SECRET_FILE")
    return Path(stated) if stated else None


def files_from(environ: Mapping[str, str]) -> Files:
    """The real disk; or, where ``MESA_FAULT`` asks for it, one that fails as a test has planned."""
    if not (environ.get("MESA_FAULT") or environ.get("MESA_FAULT_LOG")):
        return Files()
    # Loaded by name: what ships to be tested with is no part of a server.
    faults = importlib.import_module("mesafs.testing.faults")
    made: Files = faults.files(environ)
    return made


def check_organisation_slug(slug: str) -> str:
    if _SLUG.fullmatch(slug) is None or slug in RESERVED_SLUGS:
        raise Invalid(
            f"{slug[:80]!r} cannot be the name of an organisation",
            hint="use 1 to 63 lower-case letters, digits and hyphens, such as my-org",
        )
    return slug
