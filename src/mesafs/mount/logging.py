"""The daemon's log: one line per fact, bounded in size, free of secrets, patient with repetition."""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys
import threading
from pathlib import Path

from mesafs.base.clock import Clock, SystemClock

ROOT = "mesafs"
MAX_BYTES = 8 << 20
_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_SECRETS = re.compile(
    r"mesa_live_[0-9A-Za-z]{26}_[\w-]+|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+|(?<=[Bb]earer )[\w.~+/=-]+"
)
_REPEAT_SECONDS = 10.0


def set_up(file: Path | None, *, level: int = logging.INFO) -> logging.Logger:
    """Log to ``file`` (0600, two of 8 MiB at most), or to standard error without one."""
    handler: logging.Handler
    if file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        os.close(open_log(file))
        handler = _PrivateRotating(file, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(Redacting(_FORMAT, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(OncePerWhile())
    logger = logging.getLogger(ROOT)
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    return logger


def open_log(file: Path) -> int:
    """A descriptor to append with. Never through a link; made readable by its owner only."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(file, flags, 0o600)


class _PrivateRotating(logging.handlers.RotatingFileHandler):
    def _open(self):  # type: ignore[no-untyped-def]
        return os.fdopen(open_log(Path(self.baseFilename)), "a", encoding="utf-8")


class Redacting(logging.Formatter):
    """Keys and tokens do not reach the log, whoever put them into a message or a trace."""

    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.sub("[credential]", super().format(record))


class OncePerWhile(logging.Filter):
    """The same message again within ten seconds is left out: 10,000 reads of a server that is away
    are one fact.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__()
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        key, now = (record.name, record.getMessage()), self._clock.monotonic()
        with self._lock:
            last = self._last.get(key)
            if last is not None and now - last < _REPEAT_SECONDS:
                return False
            if len(self._last) > 1000:
                self._last.clear()
            self._last[key] = now
        return True
