"""The server's own secret: made at the first start, kept beside the database and never in it."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

from mesafs.auth.encoding import decode, encode
from mesafs.auth.sealing import SERVER_SECRET_BYTES
from mesafs.base.errors import Corrupt, Invalid
from mesafs.base.files import Files
from mesafs.server.config import Settings

SECRET_FILE = "server.secret"  # noqa: S105 - a file's name


def server_secret(settings: Settings, files: Files) -> bytes:
    """Read the secret, or make it where the data folder is new."""
    path = settings.server_secret_file or settings.data_dir / SECRET_FILE
    try:
        return _read(path)
    except FileNotFoundError:
        if settings.server_secret_file is not None:
            raise Invalid(
                f"there is no server secret at {path}",
                hint="check MESA_SERVER_SECRET_FILE, or unset it to let the server keep its own",
            ) from None
    if (settings.data_dir / "catalogue.sqlite").exists():
        raise Corrupt(
            f"the data folder has a catalogue, but its secret {path} is gone",
            hint="restore the file; without it no API key of this server can be verified",
        )
    made = secrets.token_bytes(SERVER_SECRET_BYTES)
    staged = path.with_suffix(".new")
    files.write("secret.stage", staged, encode(made).encode() + b"\n", mode=0o600)
    files.publish("secret.publish", staged, path)
    return made


def _read(path: Path) -> bytes:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise Invalid(f"{path} can be read by others", hint=f"chmod 600 {path}")
    secret = decode(path.read_text("ascii", "replace").strip())
    if secret is None or len(secret) != SERVER_SECRET_BYTES:
        raise Corrupt(
            f"{path} does not hold a server secret",
            hint="restore the file: 32 bytes in base64url without padding",
        )
    return secret
