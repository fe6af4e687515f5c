"""Handing the client out: ``/install.sh``, ``/install.json`` and ``/client.tar.gz``.

What the script names as its server comes from the configuration. Only when nothing is configured
does it come from the request, and then only if the ``Host`` header is a plain name and port; it is
quoted in any case.
"""

from __future__ import annotations

import re
import shlex
import threading
from pathlib import Path
from typing import Protocol

from starlette.responses import JSONResponse, Response

import mesafs
from mesafs.base.errors import Invalid
from mesafs.server.http.client_archive import ClientArchive, build
from mesafs.server.http.routing import Access, Call, Route

_PLAIN_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_HERE = Path(__file__).parent
_FRESH = {"Cache-Control": "no-cache"}


class InstallSettings(Protocol):
    """What these routes want to know of the server's settings."""

    @property
    def public_url(self) -> str | None: ...


class AddressUnknown(Invalid):
    def __init__(self) -> None:
        super().__init__(
            "this server cannot tell its own address from the Host header of this request",
            hint="start it with --public-url",
        )


def routes(settings: InstallSettings) -> list[Route]:
    offered = _Offered()

    def script(call: Call) -> Response:
        request = call.request
        server = server_url(
            settings.public_url, request.url.scheme, request.headers.get("host", "")
        )
        return Response(install_script(server), media_type="text/x-shellscript", headers=_FRESH)

    def facts(call: Call) -> Response:
        return JSONResponse(install_facts(offered.archive()), headers=_FRESH)

    def client(call: Call) -> Response:
        content = offered.archive().content
        return Response(content, media_type="application/gzip", headers=_FRESH)

    return [
        Route("GET", "/install.sh", "install.script", Access.PUBLIC, script),
        Route("GET", "/install.json", "install.facts", Access.PUBLIC, facts),
        Route("GET", "/client.tar.gz", "install.client", Access.PUBLIC, client),
    ]


def server_url(public_url: str | None, scheme: str, host: str) -> str:
    """Where the client will look for this server."""
    if public_url:
        return public_url.rstrip("/").removesuffix("/v1")
    if not _PLAIN_HOST.fullmatch(host):
        raise AddressUnknown
    return f"{scheme}://{host}"


def install_script(server: str) -> str:
    """The script that installs the client from ``server``."""
    program = (_HERE / "installer.py").read_text(encoding="utf-8").rstrip("\n")
    template = (_HERE / "install.sh").read_text(encoding="utf-8")
    return template.replace("@SERVER@", shlex.quote(server)).replace("@PROGRAM@", program)


def install_facts(archive: ClientArchive) -> dict[str, str | int]:
    """What a downloader checks the archive by."""
    return {
        "version": archive.version,
        "size": archive.size_bytes,
        "sha256": archive.sha256,
        "archive": "/client.tar.gz",
        "python": ">=3.11",
    }


class _Offered:
    """The archive of the package that this process runs, built once, when first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._archive: ClientArchive | None = None

    def archive(self) -> ClientArchive:
        with self._lock:
            if self._archive is None:
                self._archive = build(Path(mesafs.__file__).parent)
            return self._archive
