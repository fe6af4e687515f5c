"""An ordinary user mounts through fusermount3.

The machine's own ``/dev/fuse`` and ``/etc/fuse.conf`` stay as they are: the test binds others over
them in a mount namespace of its own, which goes with its last process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mesafs.sync import Mesa
from mesafs.testing.server import RunningServer

pytestmark = [pytest.mark.system, pytest.mark.needs("fuse"), pytest.mark.needs("root")]

SOURCE = Path(__file__).parents[2] / "src"
NOBODY = 65534
AS_NOBODY = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that everybody may enter, with a device, a home and a command in it."""
    folder = Path(
        subprocess.check_output(["mktemp", "-d", "/var/tmp/mesafs-user-XXXXXX"], text=True).strip()
    )
    folder.chmod(0o755)
    os.mknod(folder / "fuse", 0o020666, os.makedev(10, 229))
    (folder / "fuse").chmod(0o666)
    (folder / "home").mkdir()
    os.chown(folder / "home", NOBODY, NOBODY)
    shutil.copytree(SOURCE, folder / "src")  # the checkout may be where only its owner may go
    program = f"import sys; sys.path.insert(0, {str(folder / 'src')!r}); from mesafs.cli.main import main; sys.exit(main())"
    (folder / "mesa").write_text(f'#!/bin/sh\nexec /usr/bin/python3 -I -c "{program}" "$@"\n')
    (folder / "mesa").chmod(0o755)
    return folder


def run(
    place: Path, server: RunningServer, conf: str, script: str
) -> subprocess.CompletedProcess[str]:
    (place / "fuse.conf").write_text(conf)
    prepare = (
        f"mount --bind {place}/fuse /dev/fuse && mount --bind {place}/fuse.conf /etc/fuse.conf\n"
    )
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", prepare + script],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(place / "home"),
            "MESA_API_URL": server.url,
            "MESA_API_KEY": server.admin_key,
            "MESA_ORG": server.org,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_works_where_others_are_allowed_and_is_refused_with_the_remedy_where_not(
    tmp_path: Path, place: Path
) -> None:
    with RunningServer.start(tmp_path / "data", org="acme") as server:
        with Mesa(api_key=server.admin_key, api_url=server.url, org="acme") as mesa:
            mesa.repos.create(name="app")
        script = f"""
            {AS_NOBODY} {place}/mesa mount -d || exit $?
            cd {place}/home/mesa/mnt/acme/app
            {AS_NOBODY} sh -c 'echo hello > file; stat -c %U:%a file; cat file'
            cd /
            {AS_NOBODY} {place}/mesa unmount
        """

        refused = run(place, server, "# user_allow_other\n", script)
        allowed = run(place, server, "user_allow_other\n", script)

        with Mesa(api_key=server.admin_key, api_url=server.url, org="acme") as mesa:
            content = mesa.content.get(repo="app", path="file")
    subprocess.run(["rm", "-rf", str(place)], check=True)
    assert refused.returncode == 4
    assert "echo user_allow_other >> /etc/fuse.conf" in refused.stderr
    assert allowed.returncode == 0, allowed.stderr
    assert "nobody:644\nhello\n" in allowed.stdout
    assert content.is_file()
