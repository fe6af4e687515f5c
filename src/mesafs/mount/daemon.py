"""The mount daemon: constructs and wires, decides nothing.

Started by ``mesa mount``; ends when it is told to (``mesa unmount``, SIGTERM) or when somebody
unmounts it. On the way out every checkout is published, for a bounded time.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from mesafs.base.clock import Clock, SystemClock
from mesafs.base.errors import (
    ErrorKind,
    Invalid,
    MesaError,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from mesafs.base.files import Files, Hook
from mesafs.checkout.checkout import Checkout
from mesafs.checkout.journal import Identity
from mesafs.checkout.recovery import Settings, open_checkout
from mesafs.model.ids import PublishId, RepositoryId
from mesafs.mount import logging as mount_logging
from mesafs.mount.checkouts import Place, open_folder
from mesafs.mount.control import ControlServer, Instance
from mesafs.mount.daemonize import Report
from mesafs.mount.fuse import mounting
from mesafs.mount.fuse.operations import Operations
from mesafs.mount.fuse.privileges import may_pass_through
from mesafs.mount.fuse.session import Session, SessionOptions
from mesafs.mount.inodes import Inodes, KernelInvalidations
from mesafs.mount.settings import MountSettings
from mesafs.mount.state_folder import StateFolder, is_overlay, private_folder
from mesafs.mount.status import describe
from mesafs.mount.sync.credential import Access, CredentialState
from mesafs.mount.sync.remote import Server
from mesafs.mount.sync.renewal import Renewal
from mesafs.mount.sync.subscriber import Subscriber
from mesafs.mount.sync.worker import Worker
from mesafs.sdk.event_stream import StreamClosed
from mesafs.sdk.remote import READ_SECONDS, RemoteObjects, RemotePublisher
from mesafs.sdk.server_url import parse_url
from mesafs.sdk.sync_api import SyncApi
from mesafs.sdk.transport_http import HttpTransport
from mesafs.wire.resolve import Resolved
from mesafs.wire.sync import RepositoryState

log = logging.getLogger(__name__)

FSYNC_SECONDS = 10.0
LAST_PUBLISH_SECONDS = 10.0
_REQUEST_SECONDS = 10.0
_UPLOAD_SECONDS = 120.0
_OPEN_FILES = 65536
_LOOKS = 25
#: The thread that answers the kernel must not wait long for one that hashes.
_SWITCH_SECONDS = 0.0005


def main(settings: dict[str, Any], report: Report) -> int:
    """Entry of the daemon process (see ``daemonize.launch``)."""
    return serve(MountSettings(**settings), report)


def serve(settings: MountSettings, report: Report, *, hook: Hook | None = None) -> int:
    """Mount, serve until told to end, publish, unmount; the exit status."""
    mount_logging.set_up(Path(settings.log_file) if settings.log_file else None)
    sys.setswitchinterval(_SWITCH_SECONDS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OPEN_FILES, most), most))
    daemon = Daemon(settings, clock=SystemClock(), files=Files(hook))
    try:
        daemon.start()
    except BaseException:
        daemon.abandon()
        raise
    report.ready(pid=os.getpid(), **daemon.summary())
    return daemon.run()


class Daemon:
    """All parts of one mount."""

    def __init__(self, settings: MountSettings, *, clock: Clock, files: Files) -> None:
        self._settings = settings
        self._clock = clock
        self._files = files
        self._stop = threading.Event()
        self._folders: list[StateFolder] = []
        self._workers: dict[RepositoryId, Worker] = {}
        self._names: dict[RepositoryId, str] = {}
        self._mounted = False
        self._session: Session | None = None
        self._last_words = True  # whether to publish once more on the way out
        self._inodes = Inodes(made_ns=clock.now_ns())
        self._invalidations = KernelInvalidations()
        self._access = Access(self._inodes, grace=self._is_lenient())
        self._server = Server(*self._apis(settings.credential), clock)
        self._server.on_refused = self._credential_refused

    def _is_lenient(self) -> bool:
        return self._settings.on_expiry == "grace" or self._settings.credential_file is not None

    def _apis(self, credential: str) -> tuple[SyncApi, SyncApi]:
        return self._api(credential, _REQUEST_SECONDS), self._api(credential, _UPLOAD_SECONDS)

    def _api(self, credential: str, timeout_seconds: float) -> SyncApi:
        ca_file = Path(self._settings.ca_file) if self._settings.ca_file else None
        return SyncApi(
            HttpTransport(
                parse_url(self._settings.api_url),
                credential=credential,
                ca_file=ca_file,
                timeout_seconds=timeout_seconds,
                clock=self._clock,
            )
        )

    # -- starting -------------------------------------------------------------------------------

    def start(self) -> None:
        """Everything up to a mount that answers."""
        settings = self._settings
        target = mounting.check_mount_point(Path(settings.mount_point))
        resolved = self._server.call(self._resolve, seconds=READ_SECONDS)
        read_only = settings.read_only or not {"write", "admin"} & set(resolved.scopes)
        for state in resolved.repositories:
            self._open(resolved, state, read_only=read_only)
        self._operations = Operations(
            self._inodes,
            uid=settings.uid,
            gid=settings.gid,
            state_folder=settings.state,
            durability=self,
        )
        for checkout in self._inodes.checkouts:
            checkout.on_materialised = self._operations.moved_to_overlay
        self._mount(target)
        self._subscriber = Subscriber(
            self._server,
            [
                (RepositoryId(w), worker.checkout.base.bookmark)
                for w, worker in self._workers.items()
            ],
            clock=self._clock,
            on_state=self._moved,
            on_closed=self._stream_closed,
        )
        self._renewal = Renewal(
            self._access,
            clock=self._clock,
            credential_file=Path(settings.credential_file) if settings.credential_file else None,
            renew=self.renew,
        )
        self._access.renewed(resolved.expires_at_seconds)
        for worker in self._workers.values():
            worker.start()
        if self._workers:
            self._subscriber.start()
        self._renewal.start()
        self._start_control(target)

    def _resolve(self, api: SyncApi) -> Resolved:
        wanted = self._settings.repositories
        names = None if wanted is None else [(str(name), bookmark) for name, bookmark in wanted]
        return api.resolve(self._settings.organisation, names)

    def _open(self, resolved: Resolved, state: RepositoryState, *, read_only: bool) -> None:
        settings = self._settings
        place = Place(resolved.server, state.repository, settings.mount_point, state.bookmark)
        checkout_id, folder = open_folder(
            Path(settings.state),
            place,
            fresh_id=secrets.token_hex(8),
            ephemeral=settings.ephemeral,
            clock=self._clock,
            files=self._files,
        )
        self._folders.append(folder)
        objects = RemoteObjects(self._server, state.repository)
        checkout = open_checkout(
            Settings(
                folder=str(folder.path),
                cache_folder=str(folder.path / "cache"),
                cache_limit_bytes=settings.cache_max_bytes,
                edits_limit_bytes=settings.edits_max_bytes,
                read_only=read_only,
            ),
            Identity(state.repository.encode(), checkout_id.encode()),
            state,
            objects,
            files=self._files,
            clock=self._clock,
            first_number=secrets.randbits(60),
            lock=self._inodes.lock,
            inodes=self._inodes.table,
            invalidations=self._invalidations,
        )
        self._inodes.add(state.organisation.encode(), state.name.encode(), checkout)
        name = f"{state.organisation}/{state.name}"
        self._names[state.repository] = name
        worker = Worker(
            name,
            checkout,
            objects,
            RemotePublisher(self._server, state.repository, checkout_id),
            clock=self._clock,
            new_id=lambda: PublishId(secrets.token_hex(16)),
        )
        self._workers[state.repository] = worker
        if state.commit != checkout.base.commit:
            worker.moved(state)

    def _mount(self, target: Path) -> None:
        fd = mounting.mount(target)
        self._mounted = True
        settings = self._settings
        depth = 2 if is_overlay(Path(settings.state)) else 1
        options = SessionOptions(
            passthrough=settings.passthrough and may_pass_through(),
            max_stack_depth=depth,
            looks=_LOOKS if (os.cpu_count() or 1) > 1 else 0,
            settle_memory=True,
        )
        session = Session(fd, self._operations.table(), options=options, log=log)
        self._session = session
        self._invalidations.notifier = session.notifications
        self._access.notifier = session.notifications
        self._server_thread = threading.Thread(target=self._serve, name="fuse", daemon=True)
        self._server_thread.start()
        if not session.initialised.wait(READ_SECONDS):
            raise Unavailable("the kernel did not answer the mount within 10 seconds")
        negotiated = session.negotiated
        if negotiated is not None and negotiated.passthrough:
            self._operations.passthrough = session

    def _serve(self) -> None:
        assert self._session is not None, "started by _mount"
        try:
            self._session.serve()
        except Exception:
            log.exception("the FUSE session ended by a bug")
        self._mounted = False
        self._stop.set()

    def _start_control(self, target: Path) -> None:
        log_file = Path(self._settings.log_file) if self._settings.log_file else None
        instance = Instance.new(target, clock=self._clock, log_file=log_file)
        runtime = private_folder(Path(self._settings.runtime))
        self._control = ControlServer(
            runtime,
            instance,
            {
                "status": self._status,
                "sync": self._sync,
                "unmount": self._unmount,
                "renew": self._renew,
            },
            log=log,
            clock=self._clock,
        )
        self._control.start()

    def abandon(self) -> None:
        """Undo a start that failed half-way."""
        self._server.stop()
        if self._mounted:
            mounting.unmount(Path(self._settings.mount_point), lazy=True)
        for folder in self._folders:
            folder.close()

    def summary(self) -> dict[str, Any]:
        return {
            "mount_point": self._settings.mount_point,
            "repositories": sorted(self._names.values()),
        }

    # -- running --------------------------------------------------------------------------------

    def run(self) -> int:
        """Wait for the end, then publish and unmount."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stop.set())
        while not self._stop.wait(3600):
            continue
        return self._end()

    def _end(self) -> int:
        self._renewal.stop()
        status = self._publish_all(LAST_PUBLISH_SECONDS) if self._last_words else 0
        if self._mounted:
            mounting.unmount(Path(self._settings.mount_point), lazy=True)
        self._subscriber.stop()
        self._server.stop()
        for worker in self._workers.values():
            worker.stop()
        for worker in self._workers.values():
            worker.join(1.0)
        self._control.close()
        for folder in self._folders:
            folder.close()
        return status

    def _publish_all(self, seconds: float) -> int:
        for worker in self._workers.values():
            if not worker.unpublished():
                continue
            try:
                worker.sync(seconds=seconds)
            except MesaError as error:
                log.warning("%s keeps unpublished edits in its journal: %s", worker.name, error)
                denied = error.kind in {ErrorKind.UNAUTHENTICATED, ErrorKind.DENIED}
                return 4 if denied else 75
        return 0

    # -- what the parts tell each other -----------------------------------------------------------

    def synced(self, checkout: Checkout) -> None:
        """A program's fsync has put an edit on this machine's disk (see ``operations.Durability``)."""
        worker = self._workers[RepositoryId(checkout.identity.repository.decode())]
        worker.edited()
        if self._settings.durability != "server":
            return
        try:
            worker.sync(seconds=FSYNC_SECONDS)
        except (MesaError, OSError) as error:
            raise OSError(errno.EIO, f"not on the server: {error}") from error

    def _moved(self, state: RepositoryState) -> None:
        worker = self._workers.get(state.repository)
        if worker is not None and state.bookmark == worker.checkout.base.bookmark:
            worker.moved(state)

    def _stream_closed(self, event: StreamClosed) -> None:
        states = {
            "expired": CredentialState.EXPIRED,
            "revoked": CredentialState.REVOKED,
            "narrowed": CredentialState.NARROWED,
        }
        if event.reason in states:
            self._access.refused(states[event.reason], event.message)
        elif event.reason == "deleted":
            log.warning("a repository was deleted: %s", event.message)

    def _credential_refused(self, error: MesaError) -> None:
        expires = self._access.expires_at_seconds
        now = self._clock.now_ns() // 1_000_000_000
        if error.kind is ErrorKind.DENIED:
            self._access.refused(CredentialState.NARROWED, error.message)
        elif expires is not None and now >= expires:
            self._access.refused(CredentialState.EXPIRED, error.message)
        else:
            self._access.refused(CredentialState.REVOKED, error.message)

    def renew(self, credential: str) -> None:
        """Take a new credential for the living mount, if it reaches what is mounted."""
        api, patient = self._apis(credential)
        resolved = self._resolve(api)
        reached = {state.repository for state in resolved.repositories}
        lacking = [
            self._names[repository] for repository in self._workers if repository not in reached
        ]
        if lacking:
            raise NotFound(f"the new credential does not reach {', '.join(lacking)}")
        self._server.api, self._server.patient = api, patient
        self._server.reached()
        self._access.renewed(resolved.expires_at_seconds)
        self._subscriber.reconnect()
        for worker in self._workers.values():
            worker.edited()

    # -- control --------------------------------------------------------------------------------

    def _status(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        requests = self._session.requests() if self._session is not None else {}
        return describe(
            self._settings.mount_point,
            self._settings.api_url,
            self._settings.organisation,
            self._access,
            self._server,
            self._workers.values(),
            connected=self._subscriber.connected,
            requests=requests,
            clock=self._clock,
        )

    def _sync(self, arguments: dict[str, Any]) -> dict[str, Any]:
        seconds = float(arguments.get("timeout") or 60.0)
        found = self._meant(arguments.get("path"))
        for worker in found:
            self._require_credential(worker)
            worker.sync(seconds=seconds)
        return {"published": [worker.name for worker in found]}

    def _meant(self, path: object) -> list[Worker]:
        """The repository that a path is in; all of them for the mount point itself."""
        below = os.path.relpath(str(path), self._settings.mount_point) if path else "."
        place = "/".join(below.split("/")[:2])
        return [w for w in self._workers.values() if w.name == place] or [*self._workers.values()]

    def _require_credential(self, worker: Worker) -> None:
        if self._access.state is not CredentialState.VALID and worker.unpublished():
            raise Unauthenticated(
                f"{worker.name} has {worker.unpublished()} unpublished edits and the credential is "
                f"{self._access.state.value}",
                hint="they are kept; mount again with a valid MESA_API_KEY to publish them",
            )

    def _unmount(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Publish, then end. The mount goes away even when the edits have to stay in the journal."""
        seconds = float(arguments.get("timeout") or 60.0)
        kept: MesaError | None = None
        for worker in self._workers.values():
            if not worker.unpublished():
                continue
            try:
                self._require_credential(worker)
                worker.sync(seconds=seconds)
            except MesaError as error:
                kept = error
        self._last_words = kept is None
        self._stop.set()
        if kept is not None:
            raise kept
        return {"pid": os.getpid()}

    def _renew(self, arguments: dict[str, Any]) -> dict[str, Any]:
        credential = arguments.get("credential")
        if not isinstance(credential, str):
            raise Invalid("no credential was given")
        self.renew(credential)
        return {"expires_at": self._access.expires_at_seconds}
