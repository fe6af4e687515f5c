"""The socket by which the command line talks to a daemon, and how a daemon is found.

One connection carries one request and one reply, a line of JSON each. Both ends check who the other
is: the daemon serves its owner and root only; a client believes only an answer that carries the
instance id it looked for, so a recycled process id or a forged file reaches nobody.

Invariant: nothing here waits without a bound, and no answer carries a credential.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mesafs.base.clock import Clock, SystemClock
from mesafs.base.errors import (
    Conflict,
    Corrupt,
    Denied,
    ErrorKind,
    Exhausted,
    Invalid,
    MesaError,
    NotFound,
    Unauthenticated,
    Unavailable,
)

Verb = Callable[[dict[str, Any]], dict[str, Any]]

MAX_REQUEST_BYTES = 64 << 10
MAX_REPLY_BYTES = 16 << 20
_REQUEST_SECONDS = 1.0
_REPLY_SECONDS = 5.0
_MAX_CONNECTIONS = 32
_PEER = struct.Struct("3i")
_INSTANCE_ID = re.compile(r"[0-9a-f]{16}")


class NoDaemon(NotFound):
    """No running mount fits."""


class NotResponding(Unavailable):
    """The daemon lives and does not answer in time."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One daemon, as its file in the runtime folder describes it."""

    instance: str
    pid: int
    started_ns: int
    mount_point: str
    log_file: str | None = None

    @staticmethod
    def new(mount_point: Path, *, clock: Clock, log_file: Path | None = None) -> Instance:
        return Instance(
            secrets.token_hex(8),
            os.getpid(),
            clock.now_ns(),
            os.fspath(mount_point),
            None if log_file is None else os.fspath(log_file),
        )


class ControlServer:
    """Listens in ``runtime`` (private, see ``state_folder.private_folder``) for one instance.

    ``verbs`` run on a thread of their connection and may take their time; "ping" is always there.
    """

    def __init__(
        self,
        runtime: Path,
        instance: Instance,
        verbs: Mapping[str, Verb],
        *,
        log: logging.Logger,
        clock: Clock | None = None,
    ) -> None:
        self.instance = instance
        self._runtime = runtime
        self._verbs: dict[str, Verb] = {"ping": lambda _arguments: {}, **verbs}
        self._log = log
        self._clock = clock or SystemClock()
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind, publish the instance file, serve in a thread."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _address(self._runtime, self.instance.instance) as address:
            listener.bind(address)
            os.chmod(address, 0o600)
        listener.listen(128)
        self._socket = listener
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)
        self._thread.start()
        fd = os.open(
            self._runtime / f"{self.instance.instance}.json",
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
        )
        try:
            os.write(fd, json.dumps(asdict(self.instance)).encode())
        finally:
            os.close(fd)

    def close(self) -> None:
        """Take no more requests and remove what ``start`` published. One running verb may finish."""
        if self._socket is None:
            return
        _remove(self._runtime, self.instance.instance)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(5)
        self._socket.close()
        self._socket = None

    def _accept(self) -> None:
        listener = self._socket
        assert listener is not None
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if not self._permitted(connection) or not self._free.acquire(blocking=False):
                connection.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            thread.start()

    def _permitted(self, connection: socket.socket) -> bool:
        uid = _peer(connection)[1]
        if uid in (0, os.geteuid()):
            return True
        self._log.warning("control: user %d was refused", uid)
        return False

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                line = _read_line(connection, MAX_REQUEST_BYTES, _REQUEST_SECONDS, self._clock)
                if line is None:
                    return
                reply = {"instance": self.instance.instance, **self._answer(line)}
                connection.settimeout(_REPLY_SECONDS)
                connection.sendall(json.dumps(reply).encode() + b"\n")
        except OSError:
            return  # the client is gone or too slow
        finally:
            self._free.release()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            verb, arguments = request["verb"], request.get("arguments", {})
            if not isinstance(arguments, dict):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _refusal(Invalid("the request is not one this daemon understands"))
        handler = self._verbs.get(verb) if isinstance(verb, str) else None
        if handler is None:
            return _refusal(
                NotFound("this daemon does not know that request", hint="mount again to update it")
            )
        try:
            return {"ok": True, "answer": handler(arguments)}
        except MesaError as error:
            return _refusal(error)
        except Exception:  # noqa: BLE001 - a verb's bug must not end the daemon
            self._log.exception("bug in the control request %s", verb)
            return _refusal(
                Corrupt(f"the request {verb} failed inside the daemon", hint="mesa logs")
            )


class ControlClient:
    """Talks to one instance. Each call is a connection of its own."""

    def __init__(self, runtime: Path, instance: Instance, *, clock: Clock | None = None) -> None:
        self.instance = instance
        self._runtime = runtime
        self._clock = clock or SystemClock()

    def call(self, verb: str, *, timeout: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """The answer of ``verb``, or what the daemon raised, as one of the eight kinds.

        :class:`NotResponding` after ``timeout`` seconds, :class:`NoDaemon` if nobody listens.
        """
        with self._connected(timeout) as connection:
            connection.sendall(json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")
            line = _read_line(connection, MAX_REPLY_BYTES, timeout, self._clock)
        if line is None:
            raise self._silent()
        return self._understood(line)

    def signal(self, number: signal.Signals, *, timeout: float = 1.0) -> None:
        """Signal the process that answers on the socket, and no other that has its number."""
        with self._connected(timeout) as connection:
            pid = _peer(connection)[0]
        pidfd = os.pidfd_open(pid)
        try:
            self.call("ping", timeout=timeout)  # it still lives: the descriptor is of this process
            signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)

    def kill(self) -> bool:
        """End a daemon that does not answer any more; what it acknowledged is in its journal.

        Only the process that the kernel names as the one listening on the instance's own socket.
        False when nobody listens.
        """
        try:
            with self._connected(1.0) as connection:
                pid = _peer(connection)[0]
                if pid != self.instance.pid:
                    raise Conflict(f"process {pid} listens where {self.instance.pid} should")
                pidfd = os.pidfd_open(pid)
        except (NoDaemon, ProcessLookupError):
            return False
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], 5.0)
        finally:
            os.close(pidfd)
        return True

    @contextmanager
    def _connected(self, timeout: float) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            try:
                with _address(self._runtime, self.instance.instance) as address:
                    connection.connect(address)
            except (TimeoutError, BlockingIOError):  # its queue is full: nobody takes from it
                raise self._silent() from None
            except OSError as error:
                raise NoDaemon(f"no mesa daemon serves {self.instance.mount_point}") from error
            if _peer(connection)[1] not in (0, os.geteuid()) and os.geteuid() != 0:
                raise Denied("that socket belongs to another user")
            try:
                yield connection
            except TimeoutError:
                raise self._silent() from None
            except (BrokenPipeError, ConnectionResetError):
                raise NoDaemon("the daemon ended, or refused the request") from None

    def _silent(self) -> NotResponding:
        return NotResponding(
            f"the daemon of {self.instance.mount_point} (process {self.instance.pid}) "
            "is not responding",
            hint=f"`mesa unmount --force {self.instance.mount_point}` ends it",
        )

    def _understood(self, line: bytes) -> dict[str, Any]:
        try:
            reply = json.loads(line)
            if reply["instance"] != self.instance.instance:
                raise Conflict("another daemon answered", hint="try again")
            if reply["ok"]:
                answer = reply["answer"]
                if isinstance(answer, dict):
                    return answer
                raise TypeError
            error = reply["error"]
            kind = _KINDS[ErrorKind(error["kind"])]
            raise kind(error["message"], hint=error["hint"], code=error["code"])
        except (ValueError, KeyError, TypeError):
            raise Corrupt("the daemon answered what cannot be understood") from None


_KINDS: dict[ErrorKind, type[MesaError]] = {
    kind.kind: kind
    for kind in (
        Invalid, Unauthenticated, Denied, NotFound, Conflict, Exhausted, Unavailable, Corrupt,
    )
}  # fmt: skip


def instances(runtime: Path) -> list[Instance]:
    """Every daemon that left a file, living or not, newest first."""
    found = []
    try:
        files = [path for path in runtime.iterdir() if path.suffix == ".json"]
    except OSError:
        return []
    for path in files:
        with suppress(OSError, ValueError, TypeError):
            entry = Instance(**json.loads(path.read_bytes()[:MAX_REQUEST_BYTES]))
            if _INSTANCE_ID.fullmatch(entry.instance) and entry.instance == path.stem:
                found.append(entry)
    return sorted(found, key=lambda entry: entry.started_ns, reverse=True)


def find(runtime: Path, path: Path | None = None, *, default: Path | None = None) -> Instance:
    """The daemon whose mount ``path`` lies in; without ``path`` the one at ``default``, or the only.

    Compares names only: no file system is touched that could hang.
    """
    living = [entry for entry in instances(runtime) if _listens(runtime, entry)]
    if path is not None:
        inside = [
            entry
            for entry in living
            if path == Path(entry.mount_point) or Path(entry.mount_point) in path.parents
        ]
        if inside:
            return max(inside, key=lambda entry: len(entry.mount_point))
        raise NoDaemon(f"{path} is not in a running mesa mount", hint=_hint(living))
    for entry in living:
        if default is not None and Path(entry.mount_point) == default:
            return entry
    if len(living) == 1:
        return living[0]
    if not living:
        raise NoDaemon("no mesa mount is running", hint="start one: `mesa mount --daemonize`")
    raise Invalid("several mesa mounts are running: name one", hint=_hint(living))


def clear_dead(runtime: Path) -> list[Instance]:
    """Remove the files of daemons that died without saying so; those that listen stay."""
    dead = [entry for entry in instances(runtime) if not _listens(runtime, entry)]
    for entry in dead:
        _remove(runtime, entry.instance)
    return dead


def _hint(living: list[Instance]) -> str:
    if not living:
        return "no mesa mount is running: `mesa mount --daemonize`"
    return "running: " + ", ".join(entry.mount_point for entry in living)


def _listens(runtime: Path, entry: Instance) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.2)
        try:
            with _address(runtime, entry.instance) as address:
                connection.connect(address)
        except (TimeoutError, BlockingIOError):
            return True  # its queue is full: it is there and does not answer
        except OSError:
            return False
    return True


@contextmanager
def _address(runtime: Path, instance: str) -> Iterator[str]:
    """A path short enough for a socket address, through the descriptor of the folder."""
    fd = os.open(runtime, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{instance}.sock"
    finally:
        os.close(fd)


def _remove(runtime: Path, instance: str) -> None:
    for suffix in (".json", ".sock"):
        with suppress(FileNotFoundError):
            os.unlink(runtime / f"{instance}{suffix}")


def _peer(connection: socket.socket) -> tuple[int, int, int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, uid, gid = _PEER.unpack(raw)
    return pid, uid, gid


def _read_line(connection: socket.socket, limit: int, seconds: float, clock: Clock) -> bytes | None:
    """One line within ``seconds`` altogether, or None if it is late, too long or cut off."""
    deadline = clock.monotonic() + seconds
    data = bytearray()
    while b"\n" not in data[-65536:]:
        remaining = deadline - clock.monotonic()
        if remaining <= 0 or len(data) > limit:
            return None
        connection.settimeout(remaining)
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            return None
        if not piece:
            return None
        data += piece
    return bytes(data.partition(b"\n")[0])


def _refusal(error: MesaError) -> dict[str, Any]:
    return {
        "ok": False,
        "error": {
            "kind": error.kind.value,
            "message": error.message,
            "hint": error.hint,
            "code": error.code,
        },
    }
