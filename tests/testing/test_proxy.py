"""The proxy breaks exactly what it is told to break."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from mesafs.testing.proxy import (
    Corrupt,
    Cut,
    Delay,
    Direction,
    DropResponse,
    HalfClose,
    Mode,
    Pass,
    Proxy,
    Refuse,
    Stall,
)
from support.polling import poll


class Echo:
    """Answers each line in capitals, and remembers what it was sent."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.received: list[bytes] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                side, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(side,)))
            self._threads[-1].start()

    def _serve(self, side: socket.socket) -> None:
        with side, contextlib.suppress(OSError), side.makefile("rwb", buffering=0) as stream:
            for line in stream:
                self.received.append(line)
                stream.write(line.upper())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address, seed=7) as running:
        yield running


@contextlib.contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as side:
        yield side


def ask(side: socket.socket, line: bytes) -> bytes:
    """Send a line and read until a line, the end, or a reset (which is then raised)."""
    side.sendall(line)
    answer = b""
    while not answer.endswith(b"\n"):
        more = side.recv(1000)
        if not more:
            break
        answer += more
    return answer


def test_passes_and_counts(proxy: Proxy) -> None:
    with connected(proxy) as side:
        assert ask(side, b"hello\n") == b"HELLO\n"

    assert proxy.connections == 1
    assert proxy.carried(Direction.UP) == proxy.carried(Direction.DOWN) == 6


@pytest.mark.parametrize("after", range(6))
def test_cuts_after_exactly_so_many_bytes_of_the_answer(proxy: Proxy, after: int) -> None:
    proxy.use(Cut(after=after, reset=False))

    with connected(proxy) as side:
        assert ask(side, b"hello\n") == b"HELLO\n"[:after]

    assert proxy.fired == 1


def test_cuts_a_request_so_that_the_server_never_sees_its_end(proxy: Proxy, echo: Echo) -> None:
    proxy.use(Cut(after=3, direction=Direction.UP))

    with connected(proxy) as side, pytest.raises(ConnectionResetError):
        ask(side, b"hello\n")

    assert b"hello\n" not in echo.received


def test_a_fault_may_fire_once_and_then_pass(proxy: Proxy) -> None:
    proxy.use(Cut(after=0, reset=False, times=1))

    with connected(proxy) as side:
        assert ask(side, b"hello\n") == b""
    with connected(proxy) as side:
        assert ask(side, b"hello\n") == b"HELLO\n"


def test_counts_from_the_moment_the_mode_was_set(proxy: Proxy) -> None:
    with connected(proxy) as side:
        assert ask(side, b"before\n") == b"BEFORE\n"
        proxy.use(Cut(after=2, reset=False))
        assert ask(side, b"after\n") == b"AF"


def test_half_closes_one_direction_only(proxy: Proxy, echo: Echo) -> None:
    proxy.use(HalfClose(after=2))

    with connected(proxy) as side:
        assert ask(side, b"hello\n") == b"HE"
        side.sendall(b"still here\n")
        poll(lambda: b"still here\n" in echo.received)


def test_flips_one_bit_of_the_named_byte(proxy: Proxy) -> None:
    proxy.use(Corrupt(at=4, direction=Direction.UP))

    with connected(proxy) as side:
        side.sendall(b"0123456789\n")
        answer = side.recv(100)

    pairs = enumerate(zip(answer, b"0123456789\n", strict=True))
    assert [at for at, (seen, sent) in pairs if seen != sent] == [4]
    assert proxy.fired == 1


def test_stalls_until_the_mode_changes(proxy: Proxy) -> None:
    proxy.use(Stall(after=2))

    with connected(proxy) as side:
        side.sendall(b"hello\n")
        assert side.recv(2) == b"HE"
        poll(lambda: proxy.fired == 1)
        side.settimeout(0.05)
        with pytest.raises(TimeoutError):
            side.recv(1)
        side.settimeout(10)
        proxy.use(Pass())
        assert side.recv(4) == b"LLO\n"


def test_drops_the_answer_of_a_request_that_was_served(proxy: Proxy, echo: Echo) -> None:
    proxy.use(DropResponse(times=1))

    with connected(proxy) as side, pytest.raises(ConnectionResetError):
        ask(side, b"once\n")
    with connected(proxy) as side:
        assert ask(side, b"twice\n") == b"TWICE\n"

    assert echo.received == [b"once\n", b"twice\n"]


def test_refuses_and_listens_again_on_the_same_port(proxy: Proxy) -> None:
    with connected(proxy) as living:
        assert ask(living, b"hello\n") == b"HELLO\n"
        proxy.use(Refuse())
        with pytest.raises(ConnectionResetError):
            ask(living, b"gone\n")
    with pytest.raises(ConnectionRefusedError), connected(proxy):
        pass

    proxy.use(Pass())

    with connected(proxy) as side:
        assert ask(side, b"back\n") == b"BACK\n"


@pytest.mark.parametrize("mode", [Delay(0.01, jitter=0.5), Pass()])
def test_a_delay_changes_no_byte(proxy: Proxy, mode: Mode) -> None:
    proxy.use(mode)

    with connected(proxy) as side:
        assert ask(side, b"x" * 1000 + b"\n") == b"X" * 1000 + b"\n"


def test_a_server_that_is_not_there_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = nobody.getsockname()
    with Proxy(address) as proxy, pytest.raises(ConnectionError), connected(proxy) as side:
        ask(side, b"hello\n")


def test_the_same_seed_spoils_the_same_bit(echo: Echo) -> None:
    answers = set()
    for _ in range(3):
        with Proxy(echo.address, seed=3) as proxy:
            proxy.use(Corrupt(at=1))
            with connected(proxy) as side:
                answers.add(ask(side, b"123\n"))

    assert len(answers) == 1
