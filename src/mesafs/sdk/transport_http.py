"""Blocking transport on the standard library: keep-alive, one origin, no surprises.

The credential goes to the one origin that the transport was made for and nowhere else: redirects are
not followed, proxies from the environment are not asked. Safe to use from several threads: each
request takes a connection of its own from a pool. A request is repeated only when it says that this
is harmless and no answer had begun.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from mesafs.base.clock import Clock, SystemClock
from mesafs.base.errors import Unauthenticated
from mesafs.sdk.errors import Unreachable
from mesafs.sdk.exchange import USER_AGENT, Call, Request, Response
from mesafs.sdk.server_url import ServerUrl

T = TypeVar("T")

DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 256 << 20
_READ_BYTES = 1 << 18
_RETRY_PAUSES_SECONDS = (0.05, 0.25)


class OpenAnswer:
    """An answer whose body is still coming. Whoever opened it closes it; a half-read one is dropped."""

    def __init__(self, raw: http.client.HTTPResponse, name: str) -> None:
        self._raw = raw
        self._name = name
        self.status = raw.status
        self.headers: Mapping[str, str] = {key.lower(): value for key, value in raw.getheaders()}

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, none at the end; a body cut short is :class:`Unreachable`."""
        try:
            return self._raw.read(size)
        except (http.client.HTTPException, OSError) as error:
            raise _unreachable(self._name, error) from None

    def read_line(self, limit: int) -> bytes:
        try:
            return self._raw.readline(limit)
        except (http.client.HTTPException, OSError) as error:
            raise _unreachable(self._name, error) from None

    @property
    def is_complete(self) -> bool:
        return self._raw.isclosed()


class HttpTransport:
    """Carries requests to one server under one credential."""

    def __init__(
        self,
        url: ServerUrl,
        *,
        credential: str | None,
        ca_file: Path | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        user_agent: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if credential is not None and not (credential.isascii() and credential.isprintable()):
            raise Unauthenticated("the credential holds characters that no key or token has")
        self.url = url
        self._credential = credential
        self._ca_file = ca_file
        self._timeout_seconds = timeout_seconds
        self._user_agent = f"{USER_AGENT} {user_agent}" if user_agent else USER_AGENT
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._tls: ssl.SSLContext | None = None
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every idle connection; those in use are closed when their answer is."""
        self._closed.set()
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def run(self, call: Call[T]) -> T:
        """Carry out an operation and give its typed result."""
        return call.result(self.send(call.request))

    def send(self, request: Request, *, body_file: BinaryIO | None = None) -> Response:
        """The whole answer, whatever its status. ``body_file`` is sent from its beginning."""
        with self.open(request, body_file=body_file) as answer:
            parts: list[bytes] = []
            size = 0
            deadline = self._clock.monotonic() + 10 * self._timeout_seconds
            while part := answer.read(_READ_BYTES):
                parts.append(part)
                size += len(part)
                if size > MAX_ANSWER_BYTES or self._clock.monotonic() > deadline:
                    raise Unreachable(f"{self.url} sends an answer without end")
            return Response(answer.status, answer.headers, b"".join(parts))

    @contextmanager
    def open(self, request: Request, *, body_file: BinaryIO | None = None) -> Iterator[OpenAnswer]:
        """An answer to read piece by piece, inside the ``with``."""
        connection, raw = self._start(request, body_file)
        answer = OpenAnswer(raw, str(self.url))
        try:
            yield answer
        finally:
            if answer.is_complete and not raw.will_close:
                self._put_back(connection)
            else:
                raw.close()
                connection.close()

    def open_stream(
        self, request: Request, *, silence_seconds: float
    ) -> tuple[StreamAnswer, Callable[[], None]]:
        """An endless answer on a connection of its own, and what cuts it off from any thread."""
        try:
            connection = self._connect()
        except OSError as error:
            raise _unreachable(str(self.url), error) from None
        # Kept here, since http.client lets go of it when the answer is to end with the connection.
        sock = connection.sock
        try:
            self._transmit(connection, request, None)
            raw = connection.getresponse()
            sock.settimeout(silence_seconds)
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise _unreachable(str(self.url), error) from None

        def cut() -> None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        answer = StreamAnswer(raw, str(self.url), connection)
        return answer, cut

    def _start(
        self, request: Request, body_file: BinaryIO | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        pauses = iter(_RETRY_PAUSES_SECONDS if request.idempotent else ())
        while True:
            try:
                return self._attempt(request, body_file)
            except (http.client.HTTPException, OSError) as error:
                pause = next(pauses, None)
                if pause is None or not _may_pass(error):
                    raise _unreachable(str(self.url), error) from None
                self._clock.wait(self._closed, pause)

    def _attempt(
        self, request: Request, body_file: BinaryIO | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._take()
        try:
            try:
                self._transmit(connection, request, body_file)
            except (BrokenPipeError, ConnectionResetError):
                # The server may have refused a body without reading it all: its answer says why.
                if request.body is None and body_file is None:
                    raise
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _transmit(
        self,
        connection: http.client.HTTPConnection,
        request: Request,
        body_file: BinaryIO | None,
    ) -> None:
        headers = {"Accept": request.accept, "User-Agent": self._user_agent, **request.headers}
        if self._credential is not None:
            headers["Authorization"] = f"Bearer {self._credential}"
        if request.content_type is not None:
            headers["Content-Type"] = request.content_type
        if body_file is not None:
            headers["Content-Length"] = str(body_file.seek(0, 2))
            body_file.seek(0)
        connection.request(
            request.method, self.url.prefix + request.target, body_file or request.body, headers
        )

    def _take(self) -> http.client.HTTPConnection:
        """A connection that the server has not closed meanwhile, else a new one."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            if connection.sock is not None and not _has_news(connection.sock):
                return connection
            connection.close()

    def _put_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed.is_set():
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self.url.is_tls:
            connection = http.client.HTTPSConnection(
                self.url.host,
                self.url.port,
                timeout=self._timeout_seconds,
                context=self._tls_context(),
            )
        else:
            connection = http.client.HTTPConnection(
                self.url.host, self.url.port, timeout=self._timeout_seconds
            )
        try:
            connection.connect()
            # A request is two writes, head and body: without this the second waits for the first's
            # acknowledgement.
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            connection.close()
            raise
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                context = ssl.create_default_context()
                if self._ca_file is not None:
                    try:
                        context.load_verify_locations(self._ca_file)
                    except OSError as error:
                        raise Unreachable(
                            f"{self._ca_file} cannot be used to check the server: {error}",
                            hint="MESA_CA_FILE names a file of PEM certificates",
                        ) from None
                self._tls = context
            return self._tls


class StreamAnswer(OpenAnswer):
    """Holds its connection, which would otherwise be collected with its socket."""

    def __init__(
        self,
        raw: http.client.HTTPResponse,
        name: str,
        connection: http.client.HTTPConnection,
    ) -> None:
        super().__init__(raw, name)
        self._connection = connection

    def close(self) -> None:
        self._raw.close()
        self._connection.close()


def _has_news(sock: socket.socket) -> bool:
    """Whether an idle connection has anything to read: then it was closed, or is out of step."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _may_pass(error: Exception) -> bool:
    """Whether another attempt at once could end differently."""
    return not isinstance(error, ssl.SSLCertVerificationError | TimeoutError | socket.gaierror)


def _unreachable(name: str, error: Exception) -> Unreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            f"{name} shows a certificate that is not trusted: {error.verify_message}",
            hint="set MESA_CA_FILE to the certificate of the authority that signed it",
        )
    if isinstance(error, TimeoutError):
        return Unreachable(f"{name} does not answer in time")
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Unreachable(f"{name} cannot be reached: {why}", hint="is the server running there?")
