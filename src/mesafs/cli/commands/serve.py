"""``mesa serve``: run a server on a data folder; no other set-up."""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlsplit

from mesafs.base.errors import Invalid
from mesafs.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="port to listen on; 0 takes a free one"
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where everything is kept (MESA_DATA_DIR)"
    )
    parser.add_argument(
        "--admin-key-file",
        type=Path,
        metavar="FILE",
        help="also write the admin key that the first start makes to FILE, mode 0600",
    )
    parser.add_argument("--public-url", metavar="URL", help="how others reach this server")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM")


def run(arguments: argparse.Namespace, context: Context) -> int:
    try:
        from mesafs.server import config, serve  # noqa: PLC0415 - only this command pays for it
    except ModuleNotFoundError as error:
        raise Invalid(
            f"this installation has no server: the module {error.name} is missing",
            hint="pip install 'mesafs[server]'",
        ) from error
    environ = context.environ
    if not 0 <= arguments.port <= 65535:
        raise Invalid("--port must be from 0 to 65535")
    settings = config.Settings(
        data_dir=(arguments.data_dir or config.data_dir_from(environ)).absolute(),
        host=arguments.host,
        port=arguments.port,
        organisation=arguments.org or environ.get("MESA_ORG") or None,
        admin_key_file=arguments.admin_key_file,
        public_url=_public_url(arguments.public_url),
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
        server_secret_file=config.server_secret_file_from(environ),
    )

    def announce(started: serve.Started) -> None:
        output = context.output
        output.line(f"mesa server at {started.settings.base_url}")
        output.line(f"organisation {started.organisation}, data in {started.settings.data_dir}")
        if started.admin_key is not None:
            output.line(f"admin API key, shown only this once: {started.admin_key}")
            if started.settings.admin_key_file is not None:
                output.line(f"and written to {started.settings.admin_key_file}")
        for warning in started.warnings:
            output.note(f"warning: {warning}")

    return serve.serve(
        settings, clock=context.clock, files=config.files_from(environ), announce=announce
    )


def _public_url(text: str | None) -> str | None:
    if text is None:
        return None
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise Invalid(
            f"--public-url {text[:100]!r} is not the URL of a server",
            hint="give it as https://mesa.example.com",
        )
    return text.rstrip("/")
