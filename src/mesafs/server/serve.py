"""Running a server: one process on one data folder, from the first start to a drained end.

The data folder is locked for as long as the process lives. The socket is bound before anything is
made in the folder, so that a port in use costs nothing. At SIGTERM no new connection is taken, what
has been begun is answered, streams are told to end, and the catalogue is closed last.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import uvicorn

from mesafs.base.clock import Clock
from mesafs.base.errors import Conflict, Invalid
from mesafs.base.files import Files
from mesafs.server import app
from mesafs.server.config import Settings
from mesafs.server.first_start import prepare
from mesafs.server.logs import LOGGER, configure
from mesafs.server.shutdown import Shutdown
from mesafs.version import __version__

LOCK_FILE = "lock"
#: Holds the server's own URL while it runs, for programs beside it that let it choose the port.
ADDRESS_FILE = "address"
BACKLOG = 2048
MAX_HEAD_BYTES = 32 << 10
KEEP_ALIVE_SECONDS = 75


class DataFolderInUse(Conflict):
    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(
            f"another server is running on the data folder {folder}{holder}",
            hint="stop that server, or give this one another folder with --data-dir",
        )


class PortInUse(Conflict):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} on {host} is in use",
            hint="stop what listens there, or choose another with --port (0 takes a free one)",
        )


@dataclass(frozen=True, slots=True)
class Started:
    """What there is to tell once a server is about to take requests."""

    settings: Settings
    organisation: str
    admin_key: str | None
    warnings: tuple[str, ...] = ()


def serve(
    settings: Settings, *, clock: Clock, files: Files, announce: Callable[[Started], None]
) -> int:
    """Serve until a signal ends it; the result is the exit status."""
    configure()
    _check_tls(settings)
    with locked(settings.data_dir), _listening(settings) as listener:
        settings = replace(settings, port=listener.getsockname()[1])
        with app.backing(settings, clock, files) as opened:
            organisation, admin_key = prepare(opened)
            announce(Started(settings, organisation, admin_key, _warnings(settings)))
            server = _Server(_configuration(app.create(opened), settings), opened.shutdown)
            with _address(settings), _signals_end_here():
                LOGGER.info(
                    "started",
                    extra={"facts": {"version": __version__, "url": settings.base_url}},
                )
                server.run(sockets=[listener])
    LOGGER.info("stopped")
    return 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the data folder, made if it is missing; it is this process's alone while the ``with`` lasts."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Invalid(
            f"the data folder {folder} cannot be used: {error.strerror}",
            hint="give a folder that you may write with --data-dir",
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            named = f" (process {holder})" if holder.isdigit() else ""
            raise DataFolderInUse(folder, named) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise Invalid(
            f"{settings.host!r} is not an address of this machine",
            hint="use --host 127.0.0.1, or 0.0.0.0 for every address",
        ) from error
    # The protocol is named, because asyncio turns Nagle's algorithm off only where it is.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            # Bound alone, a second server would bind as well and fail only later.
            listener.listen(BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(settings.host, settings.port) from None
            raise Invalid(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror}",
                hint="choose an address of this machine with --host and a port with --port",
            ) from error
        yield listener


def _check_tls(settings: Settings) -> None:
    if settings.tls_cert is None and settings.tls_key is None:
        return
    if settings.tls_cert is None or settings.tls_key is None:
        raise Invalid("--tls-cert and --tls-key go together", hint="give both files, in PEM form")
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"the TLS certificate and key cannot be used: {error}",
            hint="--tls-cert takes a PEM chain, --tls-key its PEM private key without a password",
        ) from error


def _warnings(settings: Settings) -> tuple[str, ...]:
    if settings.tls_cert is not None or _is_loopback(settings.host):
        return ()
    warning = (
        f"listening on {settings.host} without TLS: keys and content cross the network in the "
        "clear; use --tls-cert and --tls-key, or a proxy that does TLS"
    )
    return (warning,)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _configuration(application: object, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        application,  # type: ignore[arg-type] # an ASGI application
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


class _Server(uvicorn.Server):
    """Tells the rest of the server as soon as the end begins: streams would hold it up otherwise."""

    def __init__(self, config: uvicorn.Config, shutdown: Shutdown) -> None:
        super().__init__(config)
        self._shutdown = shutdown
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not from here: a signal may find the lock of what it would call already held.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._shutdown.begin)
        super().handle_exit(sig, frame)


@contextmanager
def _signals_end_here() -> Iterator[None]:
    """The HTTP server raises the signal again when it is done; by then it has had its effect."""
    ends = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, lambda *_: None) for each in ends]
    try:
        yield
    finally:
        for each, handler in zip(ends, before, strict=True):
            signal.signal(each, handler)


@contextmanager
def _address(settings: Settings) -> Iterator[None]:
    path = settings.data_dir / ADDRESS_FILE
    staged = path.with_suffix(".new")
    local = replace(settings, public_url=None, host=_reachable(settings.host))
    staged.write_text(f"{os.getpid()} {local.base_url}\n", "ascii")
    staged.rename(path)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
