"""The server's address, with or without ``/v1``, taken apart and checked once."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from mesafs.sdk.errors import InvalidApiUrlError

DEFAULT_API_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """``prefix`` is the path before ``/v1``; empty for a server at the root of its host."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"


_PORTS = {"http": 80, "https": 443}


def parse_url(text: str) -> ServerUrl:
    """Check an address from an argument, the environment or a file."""
    if not text.isascii() or any(char <= " " or char == "\x7f" for char in text.strip()):
        raise InvalidApiUrlError("holds spaces or letters that a URL cannot have")
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise InvalidApiUrlError("cannot be read as a URL") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise InvalidApiUrlError("does not begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise InvalidApiUrlError("holds a user or password; credentials go into MESA_API_KEY")
    if parts.query or parts.fragment:
        raise InvalidApiUrlError("holds a query or a fragment")
    prefix = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return ServerUrl(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], prefix)
