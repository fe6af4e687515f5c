"""Obtaining a mount and getting rid of one.

As root by mount(2); otherwise through ``fusermount3``, which opens the device with the caller's
rights and passes the descriptor over a socket. Nobody may touch the mount until the session reads:
the kernel waits for INIT.

Invariant: a mount that is not ours is never unmounted, and nothing below a mount point is deleted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mesafs.base.errors import Conflict, Denied, Invalid, MesaError, Unavailable
from mesafs.mount.fuse import privileges

DEVICE = Path("/dev/fuse")
HELPER = "fusermount3"
FUSE_CONF = Path("/etc/fuse.conf")
SUBTYPE = "mesa"

_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_FORCE, _MNT_DETACH, _UMOUNT_NOFOLLOW = 1, 2, 8
_OCTAL = re.compile(r"\\([0-7]{3})")
_HELPER_SECONDS = 20.0


class NoDevice(Unavailable):
    """There is no ``/dev/fuse`` on this machine."""


class DeviceDenied(Denied):
    """``/dev/fuse`` is there and may not be opened."""


class OthersNotAllowed(Denied):
    """``user_allow_other`` is not set in fuse.conf."""


class HelperMissing(Unavailable):
    """``fusermount3`` is not installed."""


class MountRefused(Unavailable):
    """The kernel or its helper refused the mount."""


class BadMountPoint(Invalid):
    """The mount point cannot be used as it is."""


class Busy(Conflict):
    """Something in the mount is still in use."""


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo."""

    device: str
    target: Path
    filesystem: str
    source: str

    @property
    def is_ours(self) -> bool:
        return self.filesystem == f"fuse.{SUBTYPE}"

    @property
    def minor(self) -> int:
        """The number under which the kernel lists the connection in ``/sys/fs/fuse/connections``."""
        return int(self.device.partition(":")[2])


def mount(target: Path, *, source: str = SUBTYPE, allow_other: bool = True) -> int:
    """Mount at ``target`` and return the open device; the caller owns both.

    ``default_permissions``, ``nosuid`` and ``nodev`` always.
    """
    check_device()
    if privileges.is_admin():
        return mount_root(target, source, SUBTYPE, allow_other=allow_other)
    return mount_helper(target, source, SUBTYPE, allow_other=allow_other)


def mount_root(
    target: Path, source: str = SUBTYPE, subtype: str = SUBTYPE, *, allow_other: bool = True
) -> int:
    """mount(2); needs CAP_SYS_ADMIN in the mount's user namespace."""
    fd = _open_device()
    data = (
        f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},default_permissions"
    )
    if allow_other:
        data += ",allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MS_NOSUID | _MS_NODEV
    result = libc.mount(
        source.encode(),
        os.fsencode(target),
        b"fuse." + subtype.encode(),
        ctypes.c_ulong(flags),
        data.encode(),
    )
    if result != 0:
        code = ctypes.get_errno()
        os.close(fd)
        raise _mount_failed(code, target)
    return fd


def mount_helper(
    target: Path,
    source: str = SUBTYPE,
    subtype: str = SUBTYPE,
    *,
    allow_other: bool = True,
    helper: str = HELPER,
) -> int:
    """Mount through the setuid helper, as any user who may open the device."""
    if shutil.which(helper) is None:
        raise HelperMissing(f"{helper} is not installed", hint=HELPER_REMEDY)
    if allow_other and os.geteuid() != 0:
        check_others_allowed()
    options = f"default_permissions,nosuid,nodev,fsname={source},subtype={subtype}"
    if allow_other:
        options += ",allow_other"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            process = subprocess.Popen(
                [helper, "-o", options, "--", os.fspath(target)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                # Nothing of ours is inherited: the environment may hold a credential.
                env={"PATH": os.defpath, "LC_ALL": "C", "_FUSE_COMMFD": str(theirs.fileno())},
            )
        # Their end is closed here, or the next line waits for ever when the helper fails.
        ours.settimeout(_HELPER_SECONDS)
        fds: list[int] = []
        try:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
            message = process.communicate(timeout=_HELPER_SECONDS)[1].strip()
        except (TimeoutError, subprocess.TimeoutExpired, OSError) as error:
            process.kill()
            message = process.communicate()[1].strip() or str(error)
    if process.returncode or not fds:
        for fd in fds:
            os.close(fd)
        raise _helper_failed(message or f"{helper} exited {process.returncode}", target)
    os.set_inheritable(fds[0], False)  # noqa: FBT003 - its only spelling
    return fds[0]


def unmount(target: Path, *, lazy: bool = False) -> None:
    """Unmount; :class:`Busy` while something in it is in use, unless ``lazy``.

    A lazy unmount takes the name away at once and ends when the last open file is closed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if libc.umount2(os.fsencode(target), flags) == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EPERM, errno.EACCES):
        code = _unmount_by_helper(target, lazy=lazy)
        if code == 0:
            return
    if code == errno.EBUSY:
        raise Busy(
            f"{target} is in use",
            hint=f"end the programs working in it (`fuser -vm {target}` names them), "
            "or use `mesa unmount --force`",
        )
    if code == errno.EINVAL:
        raise Invalid(f"{target} is not a mount point")
    raise MountRefused(f"{target} cannot be unmounted: {os.strerror(code)}")


def _unmount_by_helper(target: Path, *, lazy: bool) -> int:
    if shutil.which(HELPER) is None:
        raise HelperMissing(f"{HELPER} is not installed", hint=HELPER_REMEDY)
    command = [HELPER, "-u", *(["-z"] if lazy else []), "--", os.fspath(target)]
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        timeout=_HELPER_SECONDS,
    )
    if done.returncode == 0:
        return 0
    if "busy" in done.stderr.lower():
        return errno.EBUSY
    raise MountRefused(f"{target} cannot be unmounted: {done.stderr.strip()}")


def abort(entry: MountEntry, connections: Path = Path("/sys/fs/fuse/connections")) -> bool:
    """Fail everything that waits for the daemon of ``entry``; False where fusectl is not mounted."""
    if not entry.is_ours:
        raise Conflict(f"{entry.target} is not a mount of ours")
    try:
        (connections / str(entry.minor) / "abort").write_text("1")
    except OSError:
        return False
    return True


# ---- looking at what is mounted


def mounts(mountinfo: Path = Path("/proc/self/mountinfo")) -> Iterator[MountEntry]:
    """Everything mounted, innermost last. Reads one file of the kernel and touches no mount."""
    for line in mountinfo.read_text(errors="surrogateescape").splitlines():
        fields, _, rest = line.partition(" - ")
        columns, tail = fields.split(" "), rest.split(" ")
        yield MountEntry(columns[2], Path(_unescape(columns[4])), tail[0], _unescape(tail[1]))


def our_mounts() -> list[MountEntry]:
    return [entry for entry in mounts() if entry.is_ours]


def find(target: Path) -> MountEntry | None:
    """What is mounted exactly at ``target``, the topmost if several."""
    return next((entry for entry in reversed(list(mounts())) if entry.target == target), None)


def containing(path: Path) -> MountEntry | None:
    """The mount of ours that ``path`` lies in. Compares names only, so a dead mount cannot hang it."""
    found = [
        entry for entry in our_mounts() if path == entry.target or entry.target in path.parents
    ]
    return max(found, key=lambda entry: len(entry.target.parts), default=None)


def is_ours(target: Path) -> bool:
    entry = find(target)
    return entry is not None and entry.is_ours


def is_stale(target: Path) -> bool:
    """Whether a mount of ours at ``target`` has lost its daemon.

    A daemon that lives and does not answer makes this wait: ask its control socket first.
    """
    if not is_ours(target):
        return False
    try:
        os.statvfs(target)  # the kernel keeps no answer to this; a stat it may know by heart
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def clear_stale(target: Path) -> bool:
    """Unmount what a dead daemon of ours left at ``target``; True when there was something."""
    cleared = False
    while is_stale(target):
        unmount(target, lazy=True)
        cleared = True
    return cleared


def _unescape(text: str) -> str:
    """Mountinfo writes space, tab, newline and backslash as three octal digits."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


# ---- what has to be there before

HELPER_REMEDY = "install it: `apt-get install fuse3` (dnf: fuse3, apk: fuse3)"
DEVICE_REMEDY = (
    "load it with `modprobe fuse`; in a container start it with "
    "`--device /dev/fuse --cap-add SYS_ADMIN`"
)
DEVICE_ACCESS_REMEDY = "as root: `chmod 666 /dev/fuse`"
OTHERS_REMEDY = (
    "as root: `echo user_allow_other >> /etc/fuse.conf` (or remove the # before it there)"
)


def check_device(device: Path = DEVICE) -> None:
    """Raise with the remedy when the device is absent or may not be opened."""
    if not device.exists():
        raise NoDevice(f"{device} does not exist", hint=DEVICE_REMEDY)
    if not os.access(device, os.R_OK | os.W_OK):
        raise DeviceDenied(
            f"{device} may not be opened by user {os.geteuid()}", hint=DEVICE_ACCESS_REMEDY
        )


def others_allowed(conf: Path = FUSE_CONF) -> bool:
    """Whether fuse.conf lets ordinary users mount with ``allow_other``."""
    try:
        lines = conf.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.partition("#")[0].strip() == "user_allow_other" for line in lines)


def check_others_allowed(conf: Path = FUSE_CONF) -> None:
    if not others_allowed(conf):
        raise OthersNotAllowed(f"user_allow_other is not set in {conf}", hint=OTHERS_REMEDY)


def check_mount_point(target: Path, *, create: bool = True) -> Path:
    """The absolute place to mount at, made if it is missing, or the reason why it cannot be used.

    ``~``, ``..`` and links in its parents are resolved; the last name itself must not be a link.
    """
    target = target.expanduser()
    if os.path.islink(target):  # not Path's, which raises on a dead mount
        raise BadMountPoint(
            f"mount point {target} is a symbolic link",
            hint=f"name the directory itself: {os.path.realpath(target)}",
        )
    target = Path(os.path.realpath(target.parent)) / target.name if target.name else Path("/")
    if target.name == "..":
        target = Path(os.path.realpath(target))
    if target == Path("/"):
        raise BadMountPoint("mount point / is the whole machine", hint=_CHOOSE)
    if target == Path.home():
        raise BadMountPoint(f"mount point {target} is the home directory", hint=_CHOOSE)
    outer = containing(target.parent)
    if outer is not None:
        raise BadMountPoint(
            f"mount point {target} lies inside the mount {outer.target}", hint=_CHOOSE
        )
    if create:
        _make(target)
    _check_directory(target)
    return target


_CHOOSE = "choose an empty directory, for example `--mount-point ~/mesa/mnt`"


def _make(target: Path) -> None:
    if find(target) is not None:
        return
    try:
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise BadMountPoint(
            f"mount point {error.filename} is not a directory", hint=_CHOOSE
        ) from None
    except NotADirectoryError as error:
        raise BadMountPoint(
            f"mount point {error.filename}: a parent is not a directory", hint=_CHOOSE
        ) from None
    except PermissionError:
        raise BadMountPoint(
            f"mount point {target} cannot be created: permission denied", hint=_CHOOSE
        ) from None


def _check_directory(target: Path) -> None:
    try:
        status = os.lstat(target)
        names = os.listdir(target) if stat.S_ISDIR(status.st_mode) else []
    except FileNotFoundError:
        raise BadMountPoint(
            f"mount point {target} does not exist", hint=f"`mkdir -p {target}`"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise BadMountPoint(
                f"mount point {target} holds a mount whose server is gone",
                hint=f"`mesa unmount --force {target}`, or `fusermount3 -u {target}` if it is not mesa's",
            ) from None
        raise BadMountPoint(
            f"mount point {target} cannot be read: {error.strerror}", hint=_CHOOSE
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        raise BadMountPoint(f"mount point {target} is not a directory", hint=_CHOOSE)
    if os.geteuid() != 0 and status.st_uid != os.geteuid():
        raise BadMountPoint(f"mount point {target} belongs to user {status.st_uid}", hint=_CHOOSE)
    if names:
        raise BadMountPoint(
            f"mount point {target} is not empty ({len(names)} entries): mounting would hide them",
            hint=_CHOOSE,
        )


def _open_device() -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoDevice(f"{DEVICE} does not exist", hint=DEVICE_REMEDY) from None
    except PermissionError:
        # Root without the device in its control group sees EPERM although the mode allows it.
        raise DeviceDenied(f"{DEVICE} may not be opened", hint=DEVICE_REMEDY) from None
    except OSError as error:
        raise NoDevice(f"{DEVICE} cannot be opened: {error.strerror}", hint=DEVICE_REMEDY) from None


def _mount_failed(code: int, target: Path) -> MesaError:
    if code in (errno.EPERM, errno.EACCES):
        return DeviceDenied(
            f"mounting at {target} is not permitted",
            hint="in a container start it with `--cap-add SYS_ADMIN --security-opt apparmor=unconfined`",
        )
    if code == errno.ENODEV:
        return NoDevice("this kernel has no FUSE", hint=DEVICE_REMEDY)
    return MountRefused(f"mounting at {target} failed: {os.strerror(code)}")


def _helper_failed(message: str, target: Path) -> MesaError:
    if "user_allow_other" in message:
        return OthersNotAllowed(message, hint=OTHERS_REMEDY)
    if "failed to open /dev/fuse" in message:
        return DeviceDenied(message, hint=DEVICE_ACCESS_REMEDY)
    if "fuse device not found" in message:
        return NoDevice(message, hint=DEVICE_REMEDY)
    return MountRefused(f"mounting at {target} failed: {message}")
