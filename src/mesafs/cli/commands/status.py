"""``mesa status``: what is mounted, and what the server does not have yet.

Answers within a second even when a daemon hangs; then it says so.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from mesafs.base.errors import EXIT_STATUS, ErrorKind, MesaError
from mesafs.cli.arguments import add_json
from mesafs.cli.context import Context
from mesafs.cli.output import Output
from mesafs.cli.running_mounts import RunningMounts
from mesafs.mount import control
from mesafs.mount.control import Instance
from mesafs.mount.fuse import mounting

_ANSWER_SECONDS = 0.7
_FOREIGN = "no daemon of this user answers for it"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", help="only the mount that this path is in")
    add_json(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    mounts = RunningMounts.of(arguments, context)
    if arguments.path is None:
        found = control.instances(mounts.places.runtime)
    else:
        found = [mounts.find(arguments.path)]
    with ThreadPoolExecutor(max(1, min(len(found), 32))) as asking:
        asked = list(asking.map(lambda instance: _ask(mounts, instance), found))
    answers = [answer for answer in asked if answer is not None]
    served = {answer["mount_point"] for answer in answers}
    if arguments.path is None:
        answers += [
            {"mount_point": str(entry.target), "state": _FOREIGN}
            for entry in mounting.our_mounts()
            if str(entry.target) not in served
        ]
    if arguments.json:
        context.output.json({"mounts": answers})
    else:
        _show(context.output, answers)
    # A mount without a daemon of ours may well be somebody else's: shown, and no failure.
    if any(answer["state"] not in ("running", _FOREIGN) for answer in answers):
        return EXIT_STATUS[ErrorKind.UNAVAILABLE]
    return 0


def _ask(mounts: RunningMounts, instance: Instance) -> dict[str, Any] | None:
    known = {"mount_point": instance.mount_point, "pid": instance.pid}
    try:
        answer = mounts.client(instance).call("status", timeout=_ANSWER_SECONDS)
    except control.NoDaemon:
        return None  # it ended; its mount, if one is left, is listed with those
    except control.NotResponding:
        return {**known, "state": "not responding"}
    except MesaError as error:
        return {**known, "state": f"cannot say: {error}"}
    return {**known, **answer, "state": "running"}


def _show(output: Output, answers: list[dict[str, Any]]) -> None:
    if not answers:
        output.line("no mesa mount is running")
    for answer in answers:
        output.line(f"{answer['mount_point']}: {_summary(answer)}")
        for repository in answer.get("repositories", ()):
            output.line(f"  {_repository(repository)}")


def _summary(answer: dict[str, Any]) -> str:
    if answer["state"] != "running":
        pid = f" (process {answer['pid']})" if "pid" in answer else ""
        return f"{answer['state']}{pid}; `mesa unmount --force {answer['mount_point']}` ends it"
    parts = [f"process {answer['pid']}"]
    if answer.get("server"):
        away = "" if answer.get("reachable", True) else f" unreachable ({answer['unreachable']})"
        parts.append(f"server {answer['server']}{away}")
    credential = answer.get("credential")
    if isinstance(credential, dict) and credential.get("state"):
        parts.append(f"credential {credential['state']}{_until(credential.get('expires_at'))}")
    return ", ".join(parts)


def _until(expires_at: Any) -> str:
    if not isinstance(expires_at, int):
        return ""
    return f" until {datetime.fromtimestamp(expires_at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _repository(entry: dict[str, Any]) -> str:
    parts = [str(entry.get("name", "?"))]
    if entry.get("bookmark"):
        parts.append(f"at {entry['bookmark']}")
    if entry.get("change"):
        parts.append(f"({str(entry['change'])[:8]})")
    unpublished = entry.get("unpublished") or 0
    if unpublished:
        seconds = entry.get("pending_seconds")
        since = f" for {seconds} s" if seconds is not None else ""
        parts.append(f"{unpublished} unpublished{since}")
    else:
        parts.append("published")
    if entry.get("local_only"):
        parts.append(f"{_count(entry['local_only'])} only here")
    if entry.get("conflicts"):
        parts.append(f"{_count(entry['conflicts'])} in conflict")
    if entry.get("problem"):
        parts.append(f"problem: {entry['problem']}")
    return ", ".join([" ".join(parts[:3]), *parts[3:]])


def _count(value: Any) -> int:
    return value if isinstance(value, int) else len(value)
