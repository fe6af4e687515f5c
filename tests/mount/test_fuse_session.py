from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesafs.base.errors import Unavailable
from mesafs.mount.fuse import abi, mounting
from mesafs.mount.fuse.abi import Opcode
from mesafs.mount.fuse.deferred import Deferred
from mesafs.mount.fuse.session import Handler, Result, Session, SessionOptions
from support.polling import poll
from support.tiny_filesystem import Gate, Tiny, served

LOG = logging.getLogger("test")


@pytest.fixture
def tiny() -> Tiny:
    return Tiny({b"a": b"hello\n", b"b": b"b" * 300_000})


# ---- on a real mount


@pytest.mark.system
@pytest.mark.needs("fuse", "root")
class TestOnTheKernel:
    def test_ordinary_tools_list_and_read(self, tmp_path: Path, tiny: Tiny) -> None:
        with served(tmp_path, tiny) as session:
            listed = subprocess.run(["ls", "-l", tmp_path], capture_output=True, check=True)
            shown = subprocess.run(["cat", tmp_path / "b"], capture_output=True, check=True)

            counts = session.requests()

        assert [line.split()[-1] for line in listed.stdout.splitlines()[1:]] == [b"a", b"b"]
        assert shown.stdout == b"b" * 300_000
        assert counts["init"] == 1
        assert counts["lookup"] == 2
        assert counts["readdir"] >= 1

    def test_a_read_that_waits_does_not_delay_a_lookup(self, tmp_path: Path, tiny: Tiny) -> None:
        gate = Gate(b"late!\n")
        tiny.slow[b"a"] = gate.deferred
        with served(tmp_path, tiny), ThreadPoolExecutor(1) as reader:
            slow = reader.submit((tmp_path / "a").read_bytes)
            assert gate.entered.wait(5)

            size = (tmp_path / "b").stat().st_size
            waited = not slow.done()
            gate.opened.set()

            assert size == 300_000
            assert waited
            assert slow.result(5) == b"late!\n"

    def test_more_waiting_reads_than_threads_are_all_answered(self, tmp_path: Path) -> None:
        tiny = Tiny({b"%d" % n: b"x\n" for n in range(12)})
        gates = {name: Gate(b"y\n") for name in tiny.files}
        tiny.slow = {name: gate.deferred for name, gate in gates.items()}
        with (
            served(tmp_path, tiny, SessionOptions(threads=3)),
            ThreadPoolExecutor(12) as readers,
        ):
            reads = [
                readers.submit((tmp_path / os.fsdecode(name)).read_bytes) for name in tiny.files
            ]
            poll(lambda: sum(gate.entered.is_set() for gate in gates.values()) == 3)
            for gate in gates.values():
                gate.opened.set()

            assert [read.result(5) for read in reads] == [b"y\n"] * 12

    def test_deferred_work_may_defer_again(self, tmp_path: Path, tiny: Tiny) -> None:
        tiny.slow[b"a"] = lambda: Deferred(lambda: Deferred(lambda: b"third\n"))

        with served(tmp_path, tiny):
            assert (tmp_path / "a").read_bytes() == b"third\n"

    def test_a_bug_in_a_handler_is_eio_in_the_log_and_the_mount_lives(
        self, tmp_path: Path, tiny: Tiny, caplog: pytest.LogCaptureFixture
    ) -> None:
        with served(tmp_path, tiny):
            tiny.broken = True
            with pytest.raises(OSError, match="Input/output") as caught:
                (tmp_path / "nowhere").stat()
            tiny.broken = False

            assert (tmp_path / "a").read_bytes() == b"hello\n"

        assert caught.value.errno == errno.EIO
        assert "bug in the handler of LOOKUP" in caplog.text
        assert "KeyError: 'a bug in the handler'" in caplog.text

    def test_names_once_asked_for_are_not_asked_for_again(self, tmp_path: Path, tiny: Tiny) -> None:
        with served(tmp_path, tiny) as session:
            for _ in range(3):
                assert (tmp_path / "b").stat().st_size == 300_000
                assert not (tmp_path / "absent").exists()

            assert tiny.lookups == [b"b", b"absent"]
            assert session.requests()["getattr"] == 1  # of the root

    def test_an_invalidated_inode_is_read_anew(self, tmp_path: Path, tiny: Tiny) -> None:
        with served(tmp_path, tiny) as session:
            assert (tmp_path / "a").read_bytes() == b"hello\n"
            tiny.files[b"a"] = b"HELLO\n"
            cached = (tmp_path / "a").read_bytes()

            session.notifications.inval_inode(2)
            _settle(session)

            assert cached == b"hello\n"
            assert (tmp_path / "a").read_bytes() == b"HELLO\n"

    def test_an_absent_name_appears_once_it_is_invalidated(
        self, tmp_path: Path, tiny: Tiny
    ) -> None:
        with served(tmp_path, tiny) as session:
            assert not (tmp_path / "new").exists()
            tiny.names.append(b"new")
            tiny.files[b"new"] = b"n"
            still = (tmp_path / "new").exists()

            session.notifications.inval_entry(abi.ROOT_NODE, b"new")
            _settle(session)

            assert not still
            assert (tmp_path / "new").read_bytes() == b"n"

    def test_an_epoch_has_every_name_asked_for_again(self, tmp_path: Path, tiny: Tiny) -> None:
        with served(tmp_path, tiny) as session:
            (tmp_path / "b").stat()

            assert session.notifications.increment_epoch()
            _settle(session)
            (tmp_path / "b").stat()

            assert tiny.lookups == [b"b", b"b"]

    def test_stored_pages_are_read_without_a_request(self, tmp_path: Path, tiny: Tiny) -> None:
        with served(tmp_path, tiny) as session:
            (tmp_path / "a").stat()
            session.notifications.store(2, 0, b"HELLO\n")
            _settle(session)

            assert (tmp_path / "a").read_bytes() == b"HELLO\n"
            assert "read" not in session.requests()

    def test_an_older_kernel_has_neither_passthrough_nor_epoch(
        self, tmp_path: Path, tiny: Tiny
    ) -> None:
        old = SessionOptions(passthrough=True, minor=38, flags_off=abi.Init.PASSTHROUGH)

        with served(tmp_path, tiny, old) as session:
            negotiated = session.negotiated
            assert (tmp_path / "a").read_bytes() == b"hello\n"
            assert not session.notifications.increment_epoch()

        assert negotiated is not None
        assert negotiated.minor == 38
        assert not negotiated.passthrough
        assert not negotiated.resend

    def test_passthrough_registers_a_file_and_lets_it_go(self, tmp_path: Path, tiny: Tiny) -> None:
        target, backing = tmp_path / "mnt", tmp_path / "backing"
        target.mkdir()
        backing.write_bytes(b"HELLO\n")
        ids: list[int] = []

        with served(target, tiny, SessionOptions(passthrough=True)) as session:
            if session.negotiated is None or not session.negotiated.passthrough:
                pytest.skip("this kernel has no passthrough")

            def open_through(_head: object, _payload: object) -> Result:
                fd = os.open(backing, os.O_RDONLY)
                ids.append(session.backing_open(fd))
                os.close(fd)
                return abi.OPEN_OUT.pack(7, abi.FOPEN_PASSTHROUGH, ids[-1])

            def release(_head: object, _payload: object) -> Result:
                session.backing_close(ids[-1])
                return b""

            session._table[Opcode.OPEN] = open_through
            session._table[Opcode.RELEASE] = release

            assert (target / "a").read_bytes() == b"HELLO\n"
            poll(lambda: session.requests().get("release"))
            assert ids[0] > 0
            assert "read" not in session.requests()

    def test_an_interrupted_caller_gets_eintr_from_work_that_honours_it(
        self, tmp_path: Path, tiny: Tiny
    ) -> None:
        gate = Gate(b"never")
        # A name, since buffered reads are requests of the kernel and never interrupted.
        tiny.slow_names[b"lost"] = gate.deferred
        with served(tmp_path, tiny):
            reader = subprocess.Popen(["cat", tmp_path / "lost"], stderr=subprocess.DEVNULL)
            assert gate.entered.wait(5)

            reader.send_signal(signal.SIGTERM)

            assert reader.wait(5) == -signal.SIGTERM
            assert gate.cancelled.is_set()

    def test_unmount_with_a_waiting_read_ends_the_session(self, tmp_path: Path, tiny: Tiny) -> None:
        gate = Gate(b"never\n")
        tiny.slow[b"a"] = gate.deferred
        with ThreadPoolExecutor(1) as reader, served(tmp_path, tiny):
            slow = reader.submit((tmp_path / "a").read_bytes)
            assert gate.entered.wait(5)
            entry = mounting.find(tmp_path)
            assert entry is not None
            mounting.unmount(tmp_path, lazy=True)
            gate.opened.set()
            assert slow.result(5) == b"never\n"


def _settle(session: Session) -> None:
    reached = threading.Event()
    session.notifications.marker(reached.set)
    assert reached.wait(5)


# ---- hostile messages, with a socket pair standing in for the device


class Device:
    """The kernel's end: what is sent arrives as one request, what is received is one reply."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def send(self, raw: bytes) -> None:
        self.end.send(raw)

    def request(
        self, opcode: int, payload: bytes = b"", *, unique: int = 2, length: int | None = None
    ) -> None:
        size = 40 + len(payload) if length is None else length
        self.send(abi.IN_HEADER.pack(size, opcode, unique, 1, 0, 0, 1, 0, 0) + payload)

    def reply(self) -> tuple[int, int, bytes]:
        data = self.end.recv(1 << 21)
        length, error, unique = abi.OUT_HEADER.unpack_from(data)
        assert length == len(data)
        return unique, -error, data[16:]


def _raise(error: Exception) -> Handler:
    def handler(_head: object, _payload: object) -> Result:
        raise error

    return handler


def _answer(result: object) -> Handler:
    return lambda _head, _payload: result  # type: ignore[return-value]


@contextmanager
def spoken_to(opcode: Opcode, handler: Handler, *, threads: int = 2) -> Iterator[Device]:
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(5)
    table: list[Handler | None] = [None] * abi.TABLE_SIZE
    table[opcode] = handler
    session = Session(ours.detach(), table, options=SessionOptions(threads=threads), log=LOG)
    thread = threading.Thread(target=session.serve, daemon=True)
    thread.start()
    with theirs:
        yield Device(theirs)
    thread.join(5)
    assert not thread.is_alive()
    assert session.close()


@pytest.fixture
def device() -> Iterator[Device]:
    with spoken_to(Opcode.GETATTR, _answer(b"fine")) as device:
        yield device


@pytest.mark.parametrize(
    "raw",
    [
        b"\0",
        b"\0" * 39,
        b"\xff" * 39,
    ],
    ids=["one byte", "39 zeros", "39 ones"],
)
def test_what_is_too_short_to_be_a_request_is_ignored(device: Device, raw: bytes) -> None:
    device.send(raw)
    device.request(Opcode.GETATTR)

    assert device.reply() == (2, 0, b"fine")


@pytest.mark.parametrize("length", [0, 39, 41, 2**32 - 1])
def test_a_length_that_is_not_true_is_einval(device: Device, length: int) -> None:
    device.request(Opcode.GETATTR, length=length)
    device.request(Opcode.GETATTR, unique=4)

    assert device.reply() == (2, errno.EINVAL, b"")
    assert device.reply() == (4, 0, b"fine")


@pytest.mark.parametrize("opcode", [0, 7, Opcode.GETXATTR, 63, 64, 4096, 2**32 - 1])
def test_an_opcode_without_a_handler_is_enosys(device: Device, opcode: int) -> None:
    device.request(opcode)

    assert device.reply() == (2, errno.ENOSYS, b"")


def test_forget_interrupt_and_their_like_have_no_reply(device: Device) -> None:
    device.request(Opcode.FORGET, b"\xff" * 8)
    device.request(Opcode.BATCH_FORGET, b"\xff" * 64)
    device.request(Opcode.INTERRUPT, b"\x07" + bytes(7))
    device.request(Opcode.INTERRUPT, b"\x07" + bytes(7))
    device.request(Opcode.NOTIFY_REPLY)
    device.request(Opcode.GETATTR, unique=9)

    assert device.reply() == (9, 0, b"fine")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError(errno.ENOENT, "gone"), errno.ENOENT),
        (OSError("no number"), errno.EIO),
        (socket.gaierror(socket.EAI_NONAME, "no such host"), errno.EIO),
        (OSError(100_000, "a number no kernel has"), errno.EIO),
        (Unavailable("the server is away"), errno.EIO),
        (KeyError(7), errno.EIO),
        (RecursionError("deep"), errno.EIO),
    ],
)
def test_an_exception_becomes_one_errno_the_kernel_takes(error: Exception, code: int) -> None:
    assert _reply_of(_raise(error)) == (2, code, b"")
    assert _reply_of(_answer(Deferred(lambda: _raise(error)(HEAD, VIEW)))) == (2, code, b"")


HEAD = (40, 3, 2, 1, 0, 0, 1, 0, 0)
VIEW = memoryview(b"")


@pytest.mark.parametrize(
    ("result", "reply"),
    [
        (b"", (2, 0, b"")),
        (0, (2, 0, b"")),
        (errno.EROFS, (2, errno.EROFS, b"")),
        (-5, (2, errno.EIO, b"")),
        (512, (2, errno.EIO, b"")),
        (b"x" * 5000, (2, 0, b"x" * 5000)),
        (memoryview(b"view"), (2, 0, b"view")),
        ([b"two ", memoryview(b"pieces")], (2, 0, b"two pieces")),
        ([], (2, 0, b"")),
        ("text", (2, errno.EIO, b"")),
        (Deferred(lambda: b"later"), (2, 0, b"later")),
    ],
)
def test_every_kind_of_result_is_one_reply(result: object, reply: tuple[int, int, bytes]) -> None:
    assert _reply_of(_answer(result)) == reply


def _reply_of(handler: Handler) -> tuple[int, int, bytes]:
    with spoken_to(Opcode.GETATTR, handler) as device:
        device.request(Opcode.GETATTR)
        return device.reply()


def test_an_interrupt_ends_work_that_has_not_begun() -> None:
    gates = [Gate(b"first"), Gate(b"second")]
    waiting = iter(gates)
    with spoken_to(Opcode.READ, lambda _h, _p: next(waiting).deferred(), threads=1) as device:
        device.request(Opcode.READ, unique=10)
        device.request(Opcode.READ, unique=12)
        assert gates[0].entered.wait(5)

        device.request(Opcode.INTERRUPT, abi.INTERRUPT_IN.pack(12), unique=13)

        assert device.reply() == (12, errno.EINTR, b"")
        gates[0].opened.set()
        assert device.reply() == (10, 0, b"first")
        assert not gates[1].entered.is_set()


@pytest.mark.parametrize(
    ("major", "minor", "expected"),
    [(7, 30, errno.EPROTO), (6, 99, errno.EPROTO)],
)
def test_a_kernel_too_old_is_told_so(device: Device, major: int, minor: int, expected: int) -> None:
    device.request(Opcode.INIT, abi.INIT_IN.pack(major, minor, 131072, 0))

    assert device.reply() == (2, expected, b"")


@pytest.mark.parametrize(
    ("minor", "payload_flags", "flags2"),
    [(31, 0x3FFFFFFF & ~(1 << 30), None), (36, 0x7FFFFFFF, 0), (45, 0x7FFFFFFF, 0x7FF)],
)
def test_init_takes_only_what_the_kernel_offers(
    device: Device, minor: int, payload_flags: int, flags2: int | None
) -> None:
    payload = abi.INIT_IN.pack(7, minor, 131072, payload_flags)
    if flags2 is not None:
        payload += flags2.to_bytes(4, "little") + bytes(44)
    device.request(Opcode.INIT, payload)

    _unique, error, body = device.reply()

    fields = abi.INIT_OUT.unpack(body)
    taken = fields[3] | fields[10] << 32
    offered = payload_flags | (flags2 or 0) << 32
    assert error == 0
    assert fields[:2] == (7, minor)
    assert taken & ~offered == 0
    assert not taken & (abi.Init.WRITEBACK_CACHE | abi.Init.POSIX_LOCKS | abi.Init.NO_OPEN_SUPPORT)


def test_a_newer_major_is_answered_with_ours(device: Device) -> None:
    device.request(Opcode.INIT, abi.INIT_IN.pack(8, 0, 131072, 0))

    _unique, error, body = device.reply()

    assert error == 0
    assert abi.INIT_OUT.unpack(body)[0] == 7


def test_writeback_and_passthrough_are_never_asked_for_together() -> None:
    options = SessionOptions(passthrough=True, writeback=True)
    session = Session(-1, [], options=options, log=LOG)
    offered = abi.INIT_IN.pack(7, 45, 131072, 0x7FFFFFFF) + b"\xff\xff\0\0" + bytes(44)

    session._init(HEAD, memoryview(offered))

    assert session.negotiated is not None
    assert session.negotiated.writeback
    assert not session.negotiated.passthrough


def test_structures_have_the_sizes_the_kernel_checks() -> None:
    sizes = {
        abi.IN_HEADER: 40,
        abi.OUT_HEADER: 16,
        abi.INIT_OUT: 64,
        abi.ATTR: 88,
        abi.ENTRY_OUT: 128,
        abi.ATTR_OUT: 104,
        abi.OPEN_OUT: 16,
        abi.GETATTR_IN: 16,
        abi.SETATTR_IN: 88,
        abi.MKNOD_IN: 16,
        abi.MKDIR_IN: 8,
        abi.CREATE_IN: 16,
        abi.READ_IN: 40,
        abi.RELEASE_IN: 24,
        abi.STATFS_OUT: 80,
        abi.FALLOCATE_IN: 32,
        abi.LSEEK_IN: 24,
        abi.COPY_FILE_RANGE_IN: 56,
        abi.BACKING_MAP: 16,
    }

    assert [structure.size for structure in sizes] == list(sizes.values())
    assert sys.byteorder == "little"
