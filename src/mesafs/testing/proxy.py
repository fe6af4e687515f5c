"""A TCP proxy on loopback that breaks connections on purpose, and counts what passes.

One mode holds at a time and can be changed while connections live; each pump looks at the current
mode for every chunk, and byte positions count from the moment a mode was set (or the connection
was made, if that was later). Randomness comes from one seed.
"""

from __future__ import annotations

import contextlib
import random  # noqa: TID251 - seeded by whoever makes the proxy
import socket
import struct
import threading
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

_CHUNK = 64 * 1024


class Direction(Enum):
    """Which half of a connection."""

    UP = "from the client to the server"
    DOWN = "from the server to the client"


@dataclass(frozen=True, slots=True)
class Pass:
    """Carry everything unchanged."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Hold each chunk for ``seconds``, varied by up to ``jitter`` of itself."""

    seconds: float
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection after ``after`` bytes in ``direction``; by a reset unless ``reset`` is False."""

    after: int
    direction: Direction = Direction.DOWN
    reset: bool = True
    times: int | None = None


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Carry ``after`` bytes in ``direction``, then end that direction and leave the other open."""

    after: int
    direction: Direction = Direction.DOWN
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Flip a bit, chosen by the seed, of byte number ``at`` (from 0) in ``direction``."""

    at: int
    direction: Direction = Direction.DOWN
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """Carry ``after`` bytes in ``direction``, then nothing until the mode changes."""

    after: int = 0
    direction: Direction = Direction.DOWN


@dataclass(frozen=True, slots=True)
class DropResponse:
    """Carry requests; when the answer begins, swallow it and close. The server did its work."""

    times: int | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Listen no more and reset what is open, until the mode changes."""


Mode = Pass | Delay | Cut | HalfClose | Corrupt | Stall | DropResponse | Refuse


class _Ended(Exception):
    """The connection is over, by the mode's will."""


class Proxy:
    """Stands between a client and ``target``. Use it in a ``with``; ``port`` stays the same throughout."""

    def __init__(self, target: tuple[str, int], *, seed: int = 0) -> None:
        self._target = target
        self._random = random.Random(seed)  # noqa: S311 - not a secret
        self._changed = threading.Condition()
        self._mode: Mode = Pass()
        self._generation = 0
        self._fired = 0
        self._fired_total = 0
        self._connections = 0
        self._bytes = dict.fromkeys(Direction, 0)
        self._open: set[_Connection] = set()
        self._closed = False
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self.port = 0
        self._listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        with self._changed:
            return self._connections

    @property
    def fired(self) -> int:
        """How many times a fault took effect, over all modes so far."""
        with self._changed:
            return self._fired_total

    def carried(self, direction: Direction) -> int:
        """How many bytes were given to the other side so far."""
        with self._changed:
            return self._bytes[direction]

    def use(self, mode: Mode) -> None:
        """Hold ``mode`` from now on, also for connections that are open."""
        with self._changed:
            self._mode = mode
            self._generation += 1
            self._fired = 0
            open_now = list(self._open)
            self._changed.notify_all()
        if isinstance(mode, Refuse):
            self._stop_listening()
            for connection in open_now:
                connection.end(reset=True)
        elif self._listener is None:
            self._listen()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            open_now = list(self._open)
            self._changed.notify_all()
        self._stop_listening()
        for connection in open_now:
            connection.end(reset=False)
        for thread in list(self._threads):
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close alone does not
            listener.close()

    def _start(self, run: object, *arguments: object) -> None:
        assert callable(run)
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads = [known for known in self._threads if known.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                _close(client, reset=True)
                continue
            server.settimeout(None)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(client, server)
            with self._changed:
                self._connections += 1
                self._open.add(connection)
            self._start(self._pump, connection, client, server, Direction.UP)
            self._start(self._pump, connection, server, client, Direction.DOWN)

    def _pump(
        self, connection: _Connection, source: socket.socket, sink: socket.socket, way: Direction
    ) -> None:
        position, generation = 0, self._generation
        try:
            while chunk := source.recv(_CHUNK):
                if generation != self._generation:
                    position, generation = 0, self._generation
                self._carry(connection, sink, way, chunk, position)
                position += len(chunk)
            if not connection.ended:  # else a FIN would get ahead of the reset
                sink.shutdown(socket.SHUT_WR)
        except (OSError, _Ended):
            connection.end(reset=False)
        finally:
            if connection.pump_ended():
                with self._changed:
                    self._open.discard(connection)

    def _carry(
        self,
        connection: _Connection,
        sink: socket.socket,
        way: Direction,
        chunk: bytes,
        position: int,
    ) -> None:
        """Pass one chunk on as the current mode wants it. ``position`` is that of its first byte."""
        end = position + len(chunk)
        match mode := self._mode:
            case Delay():
                spread = 1 + mode.jitter * self._random.uniform(-1, 1)
                self._hold(mode.seconds * spread)
            case Cut() if way is mode.direction and end > mode.after and self._due(mode.times):
                self._send(sink, chunk[: max(0, mode.after - position)], way)
                connection.end(reset=mode.reset)
                raise _Ended
            case HalfClose() if (
                way is mode.direction and end > mode.after and self._due(mode.times)
            ):
                self._send(sink, chunk[: max(0, mode.after - position)], way)
                sink.shutdown(socket.SHUT_WR)
                self._wait_for_end(connection)
                raise _Ended
            case Corrupt() if (
                way is mode.direction and position <= mode.at < end and self._due(mode.times)
            ):
                spoiled = bytearray(chunk)
                spoiled[mode.at - position] ^= 1 << self._random.randrange(8)
                chunk = bytes(spoiled)
            case Stall() if way is mode.direction and end > mode.after:
                passed = max(0, mode.after - position)
                self._send(sink, chunk[:passed], way)
                chunk = chunk[passed:]
                self._due(None)
                self._hold(None)
            case DropResponse() if way is Direction.DOWN and self._due(mode.times):
                connection.end(reset=True)
                raise _Ended
            case _:
                pass
        self._send(sink, chunk, way)

    def _due(self, times: int | None) -> bool:
        """Whether the fault may still fire, counting it if so."""
        with self._changed:
            if times is not None and self._fired >= times:
                return False
            self._fired += 1
            self._fired_total += 1
            return True

    def _hold(self, seconds: float | None) -> None:
        """Wait until the mode changes, the proxy closes or the time is over."""
        with self._changed:
            generation = self._generation
            self._changed.wait_for(
                lambda: self._closed or self._generation != generation, timeout=seconds
            )

    def _wait_for_end(self, connection: _Connection) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or connection.ended, timeout=30)

    def _send(self, sink: socket.socket, data: bytes, way: Direction) -> None:
        if data:
            with self._changed:  # first, so that whoever got the bytes sees them counted
                self._bytes[way] += len(data)
            sink.sendall(data)


class _Connection:
    """Two sockets that end together; closed by the second pump to finish."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._sides = (client, server)
        self._lock = threading.Lock()
        self._pumps = 2
        self._reset = False
        self.ended = False

    def end(self, *, reset: bool) -> None:
        """Wake both pumps; the sockets are closed when both have left."""
        with self._lock:
            self._reset = self._reset or reset
            if self.ended or self._pumps == 0:
                return
            self.ended = True
            for side in self._sides:
                if self._reset:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RD if self._reset else socket.SHUT_RDWR)

    def pump_ended(self) -> bool:
        with self._lock:
            self._pumps -= 1
            if self._pumps:
                return False
            for side in self._sides:
                side.close()
            return True


def _close(side: socket.socket, *, reset: bool) -> None:
    if reset:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.close()
