"""What this machine has for a mount and what it lacks, each with the remedy.

Invariant: answers within about a second, whatever hangs: nothing here touches a mount, and the
server is asked on a thread that nobody waits for longer than that.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mesafs.base.errors import Denied, MesaError, Unauthenticated
from mesafs.mount import control, state_folder
from mesafs.mount.config import Places
from mesafs.mount.fuse import abi, mounting, privileges
from mesafs.sdk.config import ClientConfig

_SERVER_SECONDS = 0.7
_OLDEST_PYTHON = (3, 11)
_PASSTHROUGH_KERNEL = (6, 9)
_OLDEST_KERNEL = (5, 4)


class Verdict(Enum):
    """``FAIL``: a mount cannot work; ``WARN``: it works, less well."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do if that is not well."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str | None = None


def examine(load: Callable[[], ClientConfig], places: Places) -> list[Finding]:
    """All findings, in the order in which a person would look; ``load`` may raise."""
    findings = [python(), device(), helper(), others(), kernel(), state(places), *daemons(places)]
    try:
        config = load()
    except MesaError as error:
        return [*findings, _from("configuration", error)]
    return [*findings, configuration(config), *server(config)]


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    text = ".".join(map(str, version))
    if version < _OLDEST_PYTHON:
        return Finding("python", Verdict.FAIL, text, "install Python 3.11 or newer")
    return Finding("python", Verdict.OK, text)


def device(path: Path = mounting.DEVICE) -> Finding:
    try:
        mounting.check_device(path)
    except MesaError as error:
        return _from("device", error)
    return Finding("device", Verdict.OK, f"{path} can be opened")


def helper() -> Finding:
    found = shutil.which(mounting.HELPER)
    if found is not None:
        return Finding("fusermount3", Verdict.OK, found)
    if privileges.is_admin():
        return Finding("fusermount3", Verdict.OK, "not installed, and not needed with your rights")
    return Finding("fusermount3", Verdict.FAIL, "not installed", mounting.HELPER_REMEDY)


def others(conf: Path = mounting.FUSE_CONF) -> Finding:
    if mounting.others_allowed(conf):
        return Finding("user_allow_other", Verdict.OK, f"set in {conf}")
    if privileges.is_admin():
        return Finding("user_allow_other", Verdict.OK, "not set, and not needed with your rights")
    detail = f"not set in {conf}: other users, root too, could not enter the mount"
    return Finding("user_allow_other", Verdict.FAIL, detail, mounting.OTHERS_REMEDY)


def kernel(release: str = os.uname().release) -> Finding:
    """The protocol's version is told only to a mounted daemon; the kernel's release implies it."""
    digits = [part for part in release.replace("-", ".").split(".")[:2] if part.isdigit()]
    version = tuple(map(int, digits))
    if version < _OLDEST_KERNEL:
        detail = f"Linux {release}: its FUSE is older than 7.31"
        return Finding("kernel", Verdict.FAIL, detail, "update the kernel")
    if version < _PASSTHROUGH_KERNEL:
        detail = f"Linux {release}: no passthrough, large files are read and written more slowly"
        return Finding("kernel", Verdict.OK, detail)
    if not privileges.may_pass_through():
        detail = f"Linux {release}: passthrough is for root of the machine only"
        return Finding("kernel", Verdict.OK, detail)
    detail = f"Linux {release}: passthrough is possible (FUSE {abi.MAJOR}.{abi.MINOR} or lower)"
    return Finding("kernel", Verdict.OK, detail)


def state(places: Places) -> Finding:
    try:
        state_folder.private_folder(places.state)
        state_folder.private_folder(places.runtime)
    except MesaError as error:
        return _from("state", error)
    except OSError as error:
        return Finding("state", Verdict.FAIL, f"{places.state}: {error.strerror}")
    if state_folder.is_in_memory(places.state):
        detail = f"{places.state} is kept in memory: unpublished edits would not survive a restart"
        remedy = "set XDG_STATE_HOME to a folder on disk, or mount with --ephemeral"
        return Finding("state", Verdict.WARN, detail, remedy)
    return Finding("state", Verdict.OK, os.fspath(places.state))


def daemons(places: Places) -> Iterator[Finding]:
    """Every mount of ours: answering, not responding, or left by a daemon that is gone."""
    living = {entry.mount_point: entry for entry in control.instances(places.runtime)}
    targets = {os.fspath(entry.target) for entry in mounting.our_mounts()}
    for target in sorted(targets):
        entry = living.get(target)
        try:
            if entry is None:
                raise control.NoDaemon("no daemon")
            control.ControlClient(places.runtime, entry).call("ping", timeout=0.2)
        except control.NotResponding as error:
            yield _from("mount", error)
        except MesaError:
            yield Finding(
                "mount",
                Verdict.WARN,
                f"{target}: no daemon of this user answers for it",
                f"`mesa unmount --force {target}`, or mount again there",
            )
        else:
            yield Finding("mount", Verdict.OK, f"{target} is served by process {entry.pid}")


def configuration(config: ClientConfig) -> Finding:
    files = ", ".join(map(os.fspath, config.files)) or "no configuration file"
    open_files = [path for path in config.files if path.stat().st_mode & 0o022]
    if open_files:
        detail = f"{open_files[0]} may be written by others"
        return Finding("configuration", Verdict.WARN, detail, f"`chmod go-w {open_files[0]}`")
    return Finding("configuration", Verdict.OK, files)


def server(config: ClientConfig) -> list[Finding]:
    """Whether the server answers and takes the credential; one request."""
    source = config.sources.get("api-url", "the default")
    where = f"{config.api_url} ({source})"
    answer: list[Finding] = []

    def ask() -> None:
        answer.extend(_ask(config, where))

    thread = threading.Thread(target=ask, name="doctor-server", daemon=True)
    thread.start()
    thread.join(_SERVER_SECONDS)
    late = Finding(
        "server",
        Verdict.FAIL,
        f"{where} did not answer within {_SERVER_SECONDS:g} seconds",
        "check MESA_API_URL and the network",
    )
    return list(answer) or [late]


def _ask(config: ClientConfig, where: str) -> list[Finding]:
    # Only the doctor's last line needs HTTP, and `mesa doctor` shall say the rest without it.
    from mesafs.sdk import operations  # noqa: PLC0415
    from mesafs.sdk.exchange import Request  # noqa: PLC0415
    from mesafs.sdk.transport_http import HttpTransport  # noqa: PLC0415

    reached = Finding("server", Verdict.OK, where)
    with HttpTransport(
        config.api_url,
        credential=config.credential,
        ca_file=config.ca_file,
        timeout_seconds=_SERVER_SECONDS,
    ) as transport:
        try:
            if config.credential is None:
                transport.send(Request("GET", "/healthz"))
                remedy = "set MESA_API_KEY to an API key or access token"
                return [reached, Finding("credential", Verdict.FAIL, "there is none", remedy)]
            who = transport.run(operations.whoami())
        except (Unauthenticated, Denied) as error:
            return [reached, _from("credential", error)]
        except MesaError as error:
            return [_from("server", error)]
    return [reached, Finding("credential", Verdict.OK, f"accepted in organisation {who.org.slug}")]


def _from(check: str, error: MesaError) -> Finding:
    return Finding(check, Verdict.FAIL, str(error), error.hint)
