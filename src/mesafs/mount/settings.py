"""What a mount daemon is told. Light, so that the command that starts one need not load it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MountSettings:
    """Everything a daemon is told; travels as JSON through a pipe, the credential with it."""

    api_url: str
    credential: str
    organisation: str
    mount_point: str
    state: str
    runtime: str
    log_file: str | None
    uid: int
    gid: int
    repositories: list[list[str | None]] | None = None
    credential_file: str | None = None
    ca_file: str | None = None
    read_only: bool = False
    durability: str = "local"
    on_expiry: str = "fail"
    cache_max_bytes: int = 2 << 30
    edits_max_bytes: int = 10 << 30
    ephemeral: bool = False
    passthrough: bool = True
