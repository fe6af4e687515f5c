"""``mesa mount``: show repositories as ordinary folders below one mount point.

Where a mesa mount of this user lives already at that place, its credential is renewed instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mesafs.base.errors import EXIT_STATUS, Invalid
from mesafs.cli.context import Context
from mesafs.cli.running_mounts import absolute
from mesafs.mount import control
from mesafs.mount.config import Places, child_environment, places
from mesafs.mount.control import ControlClient, Instance
from mesafs.mount.daemonize import DaemonFailed, Report, harden, launch
from mesafs.mount.fuse import mounting
from mesafs.mount.settings import MountSettings
from mesafs.mount.state_folder import private_folder

if TYPE_CHECKING:
    from mesafs.sdk.config import ClientConfig

_DAEMON = "mesafs.mount.daemon:main"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-d", "--daemonize", action="store_true", help="return once the mount is ready"
    )
    parser.add_argument(
        "--mount-point", type=Path, metavar="DIR", help="where (MESA_MOUNT_POINT, ~/mesa/mnt)"
    )
    parser.add_argument(
        "--repo",
        dest="mount_repositories",
        action="append",
        metavar="ORG/NAME[=bookmark:NAME]",
        help="only this repository; repeat for more (all that the credential reaches)",
    )
    parser.add_argument("--read-only", action="store_true", help="let nothing be edited")
    parser.add_argument(
        "--durability",
        choices=("local", "server"),
        default="local",
        help="what fsync waits for: this machine's disk, or the server too",
    )
    parser.add_argument(
        "--on-expiry",
        choices=("fail", "grace"),
        default="fail",
        help="after the credential expires: refuse, or go on with what is here",
    )
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="a credential that is read again when it changes",
    )
    parser.add_argument(
        "--ephemeral", action="store_true", help="keep unpublished edits in memory if need be"
    )
    parser.add_argument(
        "--no-passthrough", action="store_true", help="let the daemon carry every read and write"
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    config = context.config(arguments)
    credential = config.require_credential()
    where = places(context.environ, runtime=config.runtime_path)
    target = absolute(str(config.mount_point))
    living = _living(where, target)
    if living is not None:
        ControlClient(where.runtime, living).call("renew", credential=credential)
        context.output.line(f"{target} was mounted already; its credential is renewed")
        return 0
    mounting.clear_stale(target)
    target = mounting.check_mount_point(target)
    settings = _settings(arguments, config, where, target, credential)
    if not arguments.daemonize:
        from mesafs.mount.daemon import serve  # noqa: PLC0415 - a daemon loads it by itself

        harden()
        context.output.note(f"mounting at {target}; Ctrl-C publishes and unmounts")
        return serve(dataclasses.replace(settings, log_file=None), Report(None))
    log_file = settings.log_file
    assert log_file is not None, "a daemon has a log"
    try:
        started = launch(
            _DAEMON,
            dataclasses.asdict(settings),
            environ=child_environment(context.environ),
            log_file=Path(log_file),
        )
    except DaemonFailed as error:
        context.output.error(error.message, error.hint)
        return error.exit_status or EXIT_STATUS[error.kind]
    names = started.answer.get("repositories", [])
    context.output.line(f"{target} is ready: {len(names)} repositories, process {started.pid}")
    for name in names[:20]:
        context.output.line(f"  {target}/{name}")
    return 0


def _living(where: Places, target: Path) -> Instance | None:
    """The daemon that serves this very place, if one does."""
    for instance in control.instances(where.runtime):
        if Path(instance.mount_point) == target and mounting.is_ours(target):
            try:
                ControlClient(where.runtime, instance).call("ping", timeout=1.0)
            except control.NoDaemon:
                continue
            return instance
    return None


def _settings(
    arguments: argparse.Namespace,
    config: ClientConfig,
    where: Places,
    target: Path,
    credential: str,
) -> MountSettings:
    organisation = config.org
    if organisation is None:
        raise Invalid("no organisation was named", hint="set MESA_ORG, or pass --org")
    for spec in config.repositories:
        if spec.organisation not in (None, organisation):
            raise Invalid(
                f"{spec.organisation}/{spec.name} is not of the organisation {organisation}",
                hint="one mount shows one organisation",
            )
    state = private_folder(where.state)
    logs = private_folder(where.logs)
    private_folder(where.runtime)
    log_file = config.log_file or logs / f"mount-{str(target).strip('/').replace('/', '-')}.log"
    return MountSettings(
        api_url=str(config.api_url),
        credential=credential,
        organisation=organisation,
        mount_point=str(target),
        state=str(state),
        runtime=str(where.runtime),
        log_file=str(log_file),
        uid=os.getuid() if config.uid is None else config.uid,
        gid=os.getgid() if config.gid is None else config.gid,
        repositories=[[spec.name, spec.bookmark] for spec in config.repositories] or None,
        credential_file=None if config.credential_file is None else str(config.credential_file),
        ca_file=None if config.ca_file is None else str(config.ca_file),
        read_only=arguments.read_only,
        durability=arguments.durability,
        on_expiry=arguments.on_expiry,
        cache_max_bytes=config.cache_max_bytes,
        ephemeral=arguments.ephemeral,
        passthrough=not arguments.no_passthrough,
    )
