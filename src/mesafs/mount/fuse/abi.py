"""The FUSE protocol as data: structures, opcodes and flags, as of version 7.45.

Everything is little-endian because the protocol uses the machine's own order and the mount runs on
little-endian Linux only. A structure whose layout has surprised somebody says so beside it; the
kernel checks sizes and nothing else, so a wrong field here is a wrong file there.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

MAJOR: Final = 7
MINOR: Final = 45
ROOT_NODE: Final = 1

#: Long enough to be for ever; whatever changes is announced with a notification.
YEAR_SECONDS: Final = 365 * 86400


class Opcode(IntEnum):
    """Requests of the kernel."""

    LOOKUP = 1
    FORGET = 2  # no reply
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35  # absent from a table it is no error: the kernel sends MKNOD and OPEN for ever
    INTERRUPT = 36  # no reply
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42  # no reply
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45  # only when flags are not 0
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


#: Handlers live in a list of this length, indexed by opcode.
TABLE_SIZE: Final = 64


class Init(IntFlag):
    """Features negotiated by INIT. Bits from 32 up exist only beside ``INIT_EXT``."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    ATOMIC_O_TRUNC = 1 << 3  # O_TRUNC arrives in OPEN, not as a SETATTR before it
    BIG_WRITES = 1 << 5
    FLOCK_LOCKS = 1 << 10
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    WRITEBACK_CACHE = 1 << 16  # switches PASSTHROUGH off without a word
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    HANDLE_KILLPRIV_V2 = 1 << 28  # the server clears suid and sgid itself when told
    INIT_EXT = 1 << 30
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39


class OpenReply(IntFlag):
    """``FOPEN_*``: what the kernel may do with an opened file or directory."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1  # never together with PASSTHROUGH: EIO in the user's open
    NONSEEKABLE = 1 << 2
    CACHE_DIR = 1 << 3
    STREAM = 1 << 4
    NOFLUSH = 1 << 5
    PARALLEL_DIRECT_WRITES = 1 << 6
    PASSTHROUGH = 1 << 7


class SetAttr(IntFlag):
    """``FATTR_*``: which fields of SETATTR are meant."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    LOCKOWNER = 1 << 9
    CTIME = 1 << 10
    KILL_SUIDGID = 1 << 11


#: For the hot path: ``valid & FATTR_SIZE`` with plain integers is several times faster than enums.
FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2
FATTR_SIZE: Final = 1 << 3
FATTR_ATIME: Final = 1 << 4
FATTR_MTIME: Final = 1 << 5
FATTR_FH: Final = 1 << 6
FATTR_ATIME_NOW: Final = 1 << 7
FATTR_MTIME_NOW: Final = 1 << 8
FATTR_LOCKOWNER: Final = 1 << 9
FATTR_CTIME: Final = 1 << 10
FATTR_KILL_SUIDGID: Final = 1 << 11

FOPEN_DIRECT_IO: Final = 1 << 0
FOPEN_KEEP_CACHE: Final = 1 << 1
FOPEN_NONSEEKABLE: Final = 1 << 2
FOPEN_CACHE_DIR: Final = 1 << 3
FOPEN_STREAM: Final = 1 << 4
FOPEN_NOFLUSH: Final = 1 << 5
FOPEN_PARALLEL_DIRECT_WRITES: Final = 1 << 6
FOPEN_PASSTHROUGH: Final = 1 << 7

GETATTR_FH: Final = 1 << 0
WRITE_CACHE: Final = 1 << 0
WRITE_LOCKOWNER: Final = 1 << 1
WRITE_KILL_SUIDGID: Final = 1 << 2
OPEN_KILL_SUIDGID: Final = 1 << 0  # in ``open_flags`` of OPEN and CREATE
FSYNC_FDATASYNC: Final = 1 << 0
RENAME_NOREPLACE: Final = 1 << 0
RENAME_EXCHANGE: Final = 1 << 1
RENAME_WHITEOUT: Final = 1 << 2  # refuse it: passed on to a disk it leaves a device node

#: Set in ``unique`` of a request that had been read before and may have been carried out already.
RESENT: Final = 1 << 63


class Notify(IntEnum):
    """Codes of unasked messages to the kernel; they stand, positive, where replies have ``error``."""

    POLL = 1
    INVAL_INODE = 2
    INVAL_ENTRY = 3
    STORE = 4
    RETRIEVE = 5
    DELETE = 6
    RESEND = 7
    INC_EPOCH = 8
    PRUNE = 9


INVAL_ENTRY_EXPIRE_ONLY: Final = 1 << 0

#: ``ioctl`` requests of the device. BACKING_OPEN returns its id only for a mutable argument.
BACKING_OPEN: Final = 0x4010E501
BACKING_CLOSE: Final = 0x4004E502

#: length opcode unique nodeid uid gid pid total_extlen padding. The last word is two u16.
IN_HEADER: Final = Struct("<IIQQIIIHH")
IN_HEADER_SIZE: Final = 40
#: length error unique. ``error`` is negative in a reply and a positive code in a notification.
OUT_HEADER: Final = Struct("<IiQ")
OUT_HEADER_SIZE: Final = 16

#: major minor max_readahead flags. Up to minor 35 nothing follows.
INIT_IN: Final = Struct("<IIII")
#: The same with ``flags2``; eleven unused words follow.
INIT_IN_EXT: Final = Struct("<IIIII")
#: major minor max_readahead flags, max_background congestion_threshold, max_write time_gran,
#: max_pages map_alignment, flags2 max_stack_depth, request_timeout, padding.
INIT_OUT: Final = Struct("<IIIIHHIIHHIIH22x")

#: ino size blocks atime mtime ctime, atime_ns mtime_ns ctime_ns, mode nlink uid gid rdev blksize flags.
ATTR: Final = Struct("<QQQQQQIIIIIIIIII")
#: nodeid generation entry_valid attr_valid, entry_valid_ns attr_valid_ns, attr. Both nanosecond
#: fields stand after both seconds. A negative entry is nodeid 0 with entry_valid > 0 and no error.
ENTRY_OUT: Final = Struct("<QQQQII" + ATTR.format[1:])
#: valid valid_ns dummy attr.
ATTR_OUT: Final = Struct("<QII" + ATTR.format[1:])
#: fh open_flags backing_id. ``backing_id`` is signed and was padding once.
OPEN_OUT: Final = Struct("<QIi")

#: nodeid-independent flags, dummy, fh. ``fstat`` of an unlinked open file comes without a fh.
GETATTR_IN: Final = Struct("<IIQ")
#: valid _ fh size lock_owner atime mtime ctime atime_ns mtime_ns ctime_ns mode _ uid gid _.
SETATTR_IN: Final = Struct("<IIQQQQQQIIIIIIII")
#: mode rdev umask padding, then the name.
MKNOD_IN: Final = Struct("<IIII")
#: mode umask, then the name.
MKDIR_IN: Final = Struct("<II")
#: newdir, then both names.
RENAME_IN: Final = Struct("<Q")
#: newdir flags padding, then both names.
RENAME2_IN: Final = Struct("<QII")
#: oldnodeid, then the name.
LINK_IN: Final = Struct("<Q")
#: flags open_flags.
OPEN_IN: Final = Struct("<II")
#: flags mode umask open_flags, then the name.
CREATE_IN: Final = Struct("<IIII")
#: fh offset size read_flags lock_owner flags padding. Data of a WRITE begins behind these 40 bytes.
READ_IN: Final = Struct("<QQIIQII")
WRITE_IN: Final = READ_IN
RW_IN_SIZE: Final = 40
#: size padding; also the reply to COPY_FILE_RANGE.
WRITE_OUT: Final = Struct("<II")
#: fh flags release_flags lock_owner.
RELEASE_IN: Final = Struct("<QIIQ")
#: fh fsync_flags padding.
FSYNC_IN: Final = Struct("<QII")
#: blocks bfree bavail files ffree bsize namelen frsize padding, spare.
STATFS_OUT: Final = Struct("<QQQQQIIII24x")
#: nlookup.
FORGET_IN: Final = Struct("<Q")
#: count dummy, then ``FORGET_ONE`` entries.
BATCH_FORGET_IN: Final = Struct("<II")
#: nodeid nlookup.
FORGET_ONE: Final = Struct("<QQ")
#: unique of the request that was interrupted. May arrive before it.
INTERRUPT_IN: Final = Struct("<Q")
#: fh offset length mode padding.
FALLOCATE_IN: Final = Struct("<QQQII")
#: fh offset whence padding.
LSEEK_IN: Final = Struct("<QQII")
LSEEK_OUT: Final = Struct("<Q")
#: fh_in off_in nodeid_out fh_out off_out len flags.
COPY_FILE_RANGE_IN: Final = Struct("<QQQQQQQ")
#: ino off namelen type, name, zeros to a multiple of 8. ``off`` is the cookie of the next entry.
DIRENT: Final = Struct("<QQII")
DIRENT_SIZE: Final = 24
#: In READDIRPLUS an ``ENTRY_OUT`` precedes each dirent and counts as a lookup, except . and ..
DIRENTPLUS_SIZE: Final = 152
#: size flags (8 bytes as SETXATTR_EXT is not taken), then name and value.
SETXATTR_IN: Final = Struct("<II")
#: size padding, then the name. Size 0 asks for the length, answered by ``GETXATTR_OUT``.
GETXATTR_IN: Final = Struct("<II")
GETXATTR_OUT: Final = Struct("<II")

#: nodeid offset length. Length 0 is to the end; a negative offset means attributes only.
NOTIFY_INVAL_INODE: Final = Struct("<Qqq")
#: parent namelen flags, then the name and NUL.
NOTIFY_INVAL_ENTRY: Final = Struct("<QII")
#: nodeid offset size padding, then the data.
NOTIFY_STORE: Final = Struct("<QQII")
#: parent child namelen padding, then the name and NUL.
NOTIFY_DELETE: Final = Struct("<QQII")

#: fd flags padding, for BACKING_OPEN.
BACKING_MAP: Final = Struct("<iIQ")
BACKING_ID: Final = Struct("<I")
