"""Who made a change and what it says: values that git keeps exactly, or refuses here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from mesafs.base.errors import Exhausted, Invalid
from mesafs.model.objects import Signature

MAX_MESSAGE_BYTES = 1 << 20
#: 1970 to 2255: what every reader of git's timestamps takes.
MAX_SECONDS = 9_000_000_000
_NAME = re.compile(r"[^<>\x00-\x1f\x7f]{1,200}")
_EMAIL = re.compile(r"[^<>\s\x00-\x1f\x7f@]+@[^<>\s\x00-\x1f\x7f@]+")
_EPOCH_OFFSET_LIMIT = timedelta(hours=15)


@dataclass(frozen=True, slots=True)
class Who:
    """An author or committer as a request states one; without a date it is now."""

    name: str
    email: str
    date: datetime | None = None


def signature(who: Who, *, field: str, now_seconds: int) -> Signature:
    """``who`` as git writes it; ``field`` is named when it cannot be."""
    if _NAME.fullmatch(who.name) is None or who.name != who.name.strip():
        raise Invalid(f"{field}.name must have 1 to 200 characters, without <, > and line ends")
    if _EMAIL.fullmatch(who.email) is None or len(who.email) > 254:
        raise Invalid(f"{field}.email is not an e-mail address")
    if who.date is None:
        return Signature(who.name, who.email, now_seconds)
    offset = who.date.utcoffset() or timedelta()
    seconds = int(who.date.timestamp())
    if not 0 <= seconds <= MAX_SECONDS or abs(offset) > _EPOCH_OFFSET_LIMIT or offset.seconds % 60:
        raise Invalid(f"{field}.date is not a time that git can keep")
    return Signature(who.name, who.email, seconds, int(offset.total_seconds()) // 60)


def check_message(message: str) -> str:
    if len(message.encode()) > MAX_MESSAGE_BYTES:
        raise Exhausted(f"message is longer than {MAX_MESSAGE_BYTES} bytes")
    return message
