"""A scripted server on loopback: each connection is answered with exactly the bytes of the script."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Protocol

Script = list[list[bytes]]


class ScriptedServer:
    """For each connection, one answer for each request; a connection ends when its answers do.

    ``requests`` holds the raw text of every request. An answer of ``b""`` closes without a word;
    ``hold`` keeps the last connection open until the server is stopped.
    """

    def __init__(self, script: Script, *, hold: bool = False) -> None:
        self._script = script
        self._hold = hold
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[bytes] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        for answers in self._script:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, connection.makefile("rb") as reader:
                for answer in answers:
                    request = _read_request(reader.readline, reader.read)
                    if request is None:
                        break
                    self.requests.append(request)
                    if not answer:
                        break
                    connection.sendall(answer)
                if self._hold:
                    self._stop.wait(30)


class Starter(Protocol):
    """How a test starts one; the fixture stops it."""

    def __call__(self, script: Script, *, hold: bool = False) -> ScriptedServer: ...


def _read_request(line: Callable[[], bytes], read: Callable[[int], bytes]) -> bytes | None:
    head = b""
    while (part := line()) not in {b"\r\n", b""}:
        head += part
    if not head:
        return None
    length = next(
        (
            int(each.split(b":")[1])
            for each in head.split(b"\r\n")
            if each.lower().startswith(b"content-length:")
        ),
        0,
    )
    return head + b"\r\n" + read(length)


def answer(
    body: bytes = b"{}",
    *,
    status: str = "200 OK",
    kind: str = "application/json",
    headers: str = "",
) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body
