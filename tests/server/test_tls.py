"""The server over TLS, and a client that trusts its authority or does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.polling import poll
from support.ports import free_port

MESA = str(Path(sys.executable).parent / "mesa")

pytestmark = pytest.mark.system


def test_a_client_speaks_to_a_server_whose_authority_it_was_given_and_to_no_other(
    tmp_path: Path,
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", str(key), "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    port, admin_key = free_port(), tmp_path / "admin.key"
    command = [MESA, "serve", "--port", str(port), "--data-dir", str(tmp_path / "data")]
    command += ["--org", "acme", "--admin-key-file", str(admin_key)]
    command += ["--tls-cert", str(certificate), "--tls-key", str(key)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        environment = {
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
            "MESA_API_URL": f"https://127.0.0.1:{port}",
        }

        def whoami(**more: str) -> subprocess.CompletedProcess[str]:
            settings = {**environment, "MESA_API_KEY": admin_key.read_text().strip(), **more}
            return subprocess.run(
                [MESA, "whoami"], env=settings, capture_output=True, text=True, check=False
            )

        trusted = {"MESA_CA_FILE": str(certificate)}
        poll(admin_key.exists, 20, what="the server's first start")
        poll(lambda: whoami(**trusted).returncode == 0, 20, what="the server answers over TLS")
        stranger = whoami()
        plain = whoami(MESA_API_URL=f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        ended = server.wait(30)

    assert stranger.returncode == 75
    assert "certificate" in stranger.stderr.lower()
    assert plain.returncode == 75
    assert ended == 0
