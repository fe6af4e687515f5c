"""Faults at named durable steps, in this process or in a child that was started with ``MESA_FAULT``.

A plan is written ``step:nth:action[,…]``. ``step`` is the name that the code gives to
:class:`mesafs.base.files.Files`, or ``*`` for any step. ``nth`` counts from 1; ``3+`` means the third
and every later one. The actions:

``kill``      the process dies by SIGKILL before the step is carried out
``error``     the step fails with EIO and is not carried out
``enospc``    the same with ENOSPC
``delay=MS``  the step is carried out after so many milliseconds
``short``     half of the bytes are written, then ENOSPC (steps that write bytes only)
``torn``      half of the bytes are written, then SIGKILL (steps that write bytes only)

With ``MESA_FAULT_LOG`` the first arrival at each step and each fault that fired are appended to a
file, one line each, before the fault takes effect: a fault that never fired is a failed test.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesafs.base.files import Files, Hook, Location

ANY_STEP: Final = "*"
_WHOLE: Final = frozenset({"kill", "error", "enospc", "delay"})
_PARTIAL: Final = frozenset({"short", "torn"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of a plan."""

    step: str
    nth: int
    action: str
    persistent: bool = False
    delay_seconds: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Fault:
        step, _, rest = text.strip().rpartition(":")
        step, _, count = step.rpartition(":")
        action, _, amount = rest.partition("=")
        number = count.removesuffix("+")
        if not step or not number.isdigit() or int(number) < 1:
            raise ValueError(f"not a fault: {text!r}; write step:nth:action, nth from 1")
        if action not in _WHOLE | _PARTIAL or (action == "delay") != amount.isdigit():
            raise ValueError(f"unknown action in fault {text!r}")
        seconds = int(amount) / 1000 if amount else 0.0
        return cls(step, int(number), action, count.endswith("+"), seconds)

    def strikes(self, count: int) -> bool:
        return count == self.nth or (self.persistent and count > self.nth)


class Plan:
    """Counts arrivals at steps and says which fault is due. Safe to use from several threads."""

    def __init__(self, faults: tuple[Fault, ...], *, log: Path | None = None) -> None:
        self._faults = faults
        self._log = log
        self._lock = threading.Lock()
        self._arrivals: Counter[str] = Counter()
        self._total = 0
        self._fired: list[str] = []

    @classmethod
    def parse(cls, text: str, *, log: Path | None = None) -> Plan:
        return cls(tuple(Fault.parse(part) for part in text.split(",") if part.strip()), log=log)

    @property
    def needs_bytes(self) -> bool:
        """Whether a fault of this plan happens in the middle of a write."""
        return any(fault.action in _PARTIAL for fault in self._faults)

    @property
    def fired(self) -> list[str]:
        """The faults that fired, as ``step:count:action``, in order."""
        with self._lock:
            return list(self._fired)

    @property
    def reached(self) -> dict[str, int]:
        """How often each step was reached."""
        with self._lock:
            return dict(self._arrivals)

    def due(self, step: str) -> Fault | None:
        """Count one arrival at ``step`` and return the fault that strikes it, already logged."""
        with self._lock:
            self._arrivals[step] += 1
            self._total += 1
            if self._arrivals[step] == 1:
                self._note(f"reached {step}")
            for fault in self._faults:
                count = self._total if fault.step == ANY_STEP else self._arrivals[step]
                if fault.step in (step, ANY_STEP) and fault.strikes(count):
                    self._fired.append(f"{step}:{count}:{fault.action}")
                    self._note(f"fired {step} {count} {fault.action}")
                    return fault
        return None

    def hook(self, step: str) -> None:
        """A hook for ``Files``: everything but the faults in the middle of a write."""
        fault = self.due(step)
        if fault is not None:
            _strike(fault, step)

    def _note(self, line: str) -> None:
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(line + "\n")


class FaultyFiles(Files):
    """The real disk, until the plan says otherwise; also knows ``short`` and ``torn``."""

    def __init__(self, plan: Plan | str) -> None:
        self.plan = Plan.parse(plan) if isinstance(plan, str) else plan
        super().__init__(self.plan.hook)

    def append(self, step: str, fd: int, data: bytes) -> None:
        fault = self.plan.due(step)
        if fault is not None and fault.action in _PARTIAL:
            os.write(fd, data[: len(data) // 2])
        if fault is not None:
            _strike(fault, step)
        Files.append(_REAL, step, fd, data)

    def write(self, step: str, path: Location, data: bytes, *, mode: int = 0o600) -> None:
        fault = self.plan.due(step)
        if fault is not None and fault.action in _PARTIAL:
            Files.write(_REAL, step, path, data[: len(data) // 2], mode=mode)
        if fault is not None:
            _strike(fault, step)
        Files.write(_REAL, step, path, data, mode=mode)


_REAL = Files()


def install(environ: Mapping[str, str]) -> Hook | None:
    """The hook that ``MESA_FAULT`` and ``MESA_FAULT_LOG`` ask for, or None when neither is set.

    A hook sees names and no bytes, so a plan with ``short`` or ``torn`` is refused here; ``files``
    serves every plan.
    """
    plan = _plan(environ)
    if plan is None:
        return None
    if plan.needs_bytes:
        raise ValueError("short and torn need mesafs.testing.faults.files, not a hook")
    return plan.hook


def files(environ: Mapping[str, str]) -> Files:
    """The disk as ``MESA_FAULT`` wants it: the real one when nothing is asked for."""
    plan = _plan(environ)
    return Files() if plan is None else FaultyFiles(plan)


def _plan(environ: Mapping[str, str]) -> Plan | None:
    text, log = environ.get("MESA_FAULT", ""), environ.get("MESA_FAULT_LOG", "")
    if not text and not log:
        return None
    return Plan.parse(text, log=Path(log) if log else None)


def _strike(fault: Fault, step: str) -> None:
    match fault.action:
        case "kill" | "torn":
            os.kill(os.getpid(), signal.SIGKILL)
        case "error":
            raise OSError(errno.EIO, f"{os.strerror(errno.EIO)} (fault at {step})")
        case "enospc" | "short":
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (fault at {step})")
        case _:
            threading.Event().wait(fault.delay_seconds)
