"""install.sh: whole or not at all, checked, beside what the user has, and clear about what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from mesafs.server.http.client_archive import ClientArchive
from mesafs.server.http.install import AddressUnknown, install_script, server_url

pytestmark = pytest.mark.system


def test_installs_a_command_and_remembers_the_server(machine, origin) -> None:
    done = machine.install(install_script(origin.url), "--yes")

    assert done.returncode == 0, done.stderr
    assert "is installed" in done.stdout
    assert "/prefix/lib/mesa/current/launch.py" in machine.command.read_text()
    assert machine.command.stat().st_mode & 0o777 == 0o755
    assert tomllib.loads(machine.config.read_text()) == {"api-url": origin.url}
    current = machine.prefix / "lib" / "mesa" / "current"
    assert (current / "mesafs" / "__pycache__").is_dir()


def test_a_second_install_changes_nothing(machine, origin) -> None:
    machine.install(install_script(origin.url))
    before = machine.files()

    done = machine.install(install_script(origin.url))

    assert done.returncode == 0, done.stderr
    assert machine.files() == before


def test_two_installs_at_once_leave_one_whole_client(machine, origin) -> None:
    results = []
    script = install_script(origin.url)
    threads = [
        threading.Thread(target=lambda: results.append(machine.install(script))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [done.returncode for done in results] == [0] * 4, [done.stderr for done in results]
    library = machine.prefix / "lib" / "mesa"
    assert sorted(path.name[:2] for path in library.iterdir()) == ["0.", "cu"]
    assert list((machine.prefix / "bin").iterdir()) == [machine.command]


@pytest.mark.slow
def test_a_script_that_was_cut_does_nothing(machine, origin) -> None:
    script = install_script(origin.url)
    ends = [*range(0, len(script) - 100, 50), *range(len(script) - 100, len(script) - 2)]
    assert script.endswith('mesa_install "$@"\n}\n')

    for end in ends:
        machine.install(script[:end])
        assert machine.files() == ["home"], f"cut after {end} of {len(script)} bytes"

    assert origin.asked == []


def test_takes_the_hostile_folder_and_settings_of_the_caller_for_nothing(machine, origin) -> None:
    trap = "raise SystemExit('the wrong module was loaded')"
    for name in ("json.py", "ssl.py", "tarfile.py", "sitecustomize.py", "usercustomize.py"):
        (machine.root / name).write_text(trap)
    machine.environment |= {"PYTHONPATH": str(machine.root), "PYTHONSTARTUP": "json.py"}

    done = machine.install(install_script(origin.url))

    assert done.returncode == 0, done.stderr


LIES: dict[str, tuple[Callable[[dict[str, object], bytes], tuple[object, bytes | str]], str]] = {
    "truncated": (lambda facts, body: (facts, body[:-1]), "not whole"),
    "longer": (lambda facts, body: (facts, body + b"x"), "not whole"),
    "one bit": (lambda facts, body: (facts, bytes([body[0] ^ 1]) + body[1:]), "not whole"),
    "web page": (lambda facts, body: ("<html>", body), "not what a mesa server answers"),
    "huge": (lambda facts, body: ({**facts, "size": 65 << 20}, body), "not what a mesa server"),
    "path": (lambda facts, body: ({**facts, "version": "../../x"}, body), "not what a mesa"),
    "number": (lambda facts, body: ({**facts, "version": 3}, body), "not what a mesa"),
    "elsewhere": (lambda facts, body: (facts, "http://example.invalid/x"), "another server"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_wrong_download_leaves_the_old_client(machine, origin, archive, lie: str) -> None:
    assert machine.install(install_script(origin.url)).returncode == 0
    before = machine.files()
    change, reason = LIES[lie]
    facts = json.loads(origin.answers["/install.json"])
    new_facts, body = change(facts, archive.content)
    text = new_facts if isinstance(new_facts, str) else json.dumps(new_facts)
    origin.answers = {"/install.json": text.encode(), "/client.tar.gz": body}

    done = machine.install(install_script(origin.url))

    assert done.returncode == 1
    assert reason in done.stderr
    assert "nothing was changed" in done.stderr
    assert machine.files() == before


def test_an_older_version_needs_to_be_asked_for(machine, origin) -> None:
    assert machine.install(install_script(origin.url)).returncode == 0
    facts = json.loads(origin.answers["/install.json"])
    origin.answers["/install.json"] = json.dumps({**facts, "version": "0.0.9"}).encode()

    refused = machine.install(install_script(origin.url))
    taken = machine.install(install_script(origin.url), "--downgrade")

    assert refused.returncode == 1
    assert "newer than 0.0.9" in refused.stderr
    assert taken.returncode == 0, taken.stderr
    assert (machine.prefix / "lib/mesa/current").readlink().name.startswith("0.0.9-")


def test_a_digest_given_by_hand_is_binding(machine, origin, archive: ClientArchive) -> None:
    machine.environment["MESA_SHA256"] = "0" * 64
    refused = machine.install(install_script(origin.url))
    machine.environment["MESA_SHA256"] = archive.sha256
    taken = machine.install(install_script(origin.url))

    assert (refused.returncode, taken.returncode) == (1, 0)
    assert "MESA_SHA256" in refused.stderr


@pytest.mark.needs("root")
def test_plain_http_from_elsewhere_warns_and_names_the_digest(machine, origin, archive) -> None:
    port = origin.server_address[1]
    far = f"http://mesa-host:{port}"
    machine.environment["http_proxy"] = origin.url  # so that the name needs no resolver
    for path in ("/install.json", "/client.tar.gz"):
        origin.answers[f"{far}{path}"] = origin.answers[path]

    loud = machine.install(install_script(far), "--yes")
    quiet = machine.install(install_script(far), "--insecure")

    assert loud.returncode == 0, loud.stderr
    assert "warning" in loud.stdout
    assert archive.sha256 in loud.stdout
    assert "warning" not in quiet.stdout


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ('api-url = "https://mine.example"\nuid = 7\n', True),
        ('uid = 7\n\n[cache]\nmax-size = "1GB"\n', False),
        ('api-url = "http://old.example" # set by install.sh\nuid = 7\n', False),
    ],
)
def test_the_user_s_own_settings_stay(machine, origin, written: str, kept: bool) -> None:
    machine.config.parent.mkdir(parents=True)
    machine.config.write_text(written)
    machine.config.chmod(0o600)
    before = tomllib.loads(written)

    done = machine.install(install_script(origin.url))

    after = tomllib.loads(machine.config.read_text())
    assert after.pop("api-url") == (before.pop("api-url") if kept else origin.url)
    assert after == {name: value for name, value in before.items() if name != "api-url"}
    assert machine.config.stat().st_mode & 0o777 == 0o600
    assert ("it stays so" in done.stdout) is kept


def test_a_config_file_that_cannot_be_read_is_left_alone(machine, origin) -> None:
    machine.config.parent.mkdir(parents=True)
    machine.config.write_text("this is not = = TOML\n")

    done = machine.install(install_script(origin.url))

    assert done.returncode == 0
    assert f"set MESA_API_URL={origin.url}" in done.stdout
    assert machine.config.read_text() == "this is not = = TOML\n"


def test_another_program_of_that_name_is_not_replaced(machine, origin) -> None:
    machine.command.parent.mkdir(parents=True)
    machine.command.write_text("#!/bin/sh\necho I draw triangles\n")

    done = machine.install(install_script(origin.url))

    assert done.returncode == 1
    assert "another program" in done.stderr
    assert "triangles" in machine.command.read_text()


def test_a_folder_that_everybody_may_write_is_refused(machine, origin) -> None:
    machine.command.parent.mkdir(parents=True)
    machine.command.parent.chmod(0o777)

    done = machine.install(install_script(origin.url))

    assert done.returncode == 1
    assert "everybody may write" in done.stderr


def test_an_unknown_option_changes_nothing(machine, origin) -> None:
    done = machine.install(install_script(origin.url), "--purge")

    assert done.returncode == 2
    assert machine.files() == ["home"]


def _as_nobody(machine) -> tuple[str, ...]:
    machine.prefix = None
    for folder in (machine.root, machine.home):
        os.chown(folder, 65534, 65534)
    for folder in machine.root.parents:  # the folders of this test run
        if folder.owner() == "root" and folder.name.startswith(("pytest", "popen", "test_")):
            folder.chmod(folder.stat().st_mode | 0o011)
    return ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


@pytest.mark.needs("root")
def test_an_ordinary_user_gets_it_into_a_folder_of_their_own_on_the_path(machine, origin) -> None:
    before = _as_nobody(machine)
    (machine.home / "tools").mkdir()
    os.chown(machine.home / "tools", 65534, 65534)
    machine.environment["PATH"] = f"/usr/bin:/bin:{machine.home}/tools"

    done = machine.install(install_script(origin.url), before=before)

    assert done.returncode == 0, done.stderr
    assert (machine.home / "tools" / "mesa").exists()
    assert "not on your PATH" not in done.stdout
    assert tomllib.loads(machine.config.read_text()) == {"api-url": origin.url}


@pytest.mark.needs("root")
def test_an_ordinary_user_without_such_a_folder_is_told_where_it_is(machine, origin) -> None:
    before = _as_nobody(machine)
    machine.environment["PATH"] = "/usr/bin:/bin"

    done = machine.install(install_script(origin.url), before=before)

    assert done.returncode == 0, done.stderr
    assert (machine.home / ".local/bin/mesa").exists()
    assert f'export PATH="{machine.home}/.local/bin:$PATH"' in done.stdout
    if "user_allow_other" not in _lines("/etc/fuse.conf"):
        assert "echo user_allow_other >> /etc/fuse.conf" in done.stdout


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def _in_a_world_of_its_own(*commands: str) -> tuple[str, ...]:
    """A shell prefix that runs what follows with other folders in the place of the system's."""
    steps = " && ".join([*commands, 'exec "$@"'])
    return ("unshare", "--mount", "sh", "-c", steps, "sh")


@pytest.mark.needs("loop")  # root that may mount
def test_root_gets_it_for_the_whole_system(machine, origin) -> None:
    machine.prefix = None
    look = "ls -l /usr/local/bin/mesa; cat /etc/mesa/config.toml; ls /usr/local/lib/mesa"
    before = _in_a_world_of_its_own(
        "mount -t tmpfs -o mode=755 none /usr/local",
        "mount -t tmpfs -o mode=755 none /etc",
    )

    done = machine.install(f"{install_script(origin.url)}\n{look}\n", before=before)

    assert done.returncode == 0, done.stderr
    assert "-rwxr-xr-x" in done.stdout
    assert f'api-url = "{origin.url}"' in done.stdout
    assert "current" in done.stdout
    assert machine.files() == ["home"]


@pytest.mark.needs("loop")
def test_without_python_it_says_so(machine, origin) -> None:
    machine.environment["PATH"] = "/usr/bin:/bin"
    hidden = "for p in /usr/bin/python3* /usr/local/bin/python3*; do [ ! -x $p ] || mount --bind /dev/null $p; done"
    before = _in_a_world_of_its_own(hidden)

    done = machine.install(install_script(origin.url), before=before)

    assert done.returncode == 1
    assert "missing: python3" in done.stderr
    assert "apt-get install python3" in done.stderr
    assert machine.files() == ["home"]


@pytest.mark.parametrize(
    "host", ["", "a b", 'a"', "a$(id)", "a`id`", "a\nb", "a/b", "a'b", "a:80:80", "a;b", "@x"]
)
def test_a_host_header_that_is_not_plain_is_not_used(host: str) -> None:
    with pytest.raises(AddressUnknown):
        server_url(None, "http", host)


@pytest.mark.parametrize("host", ["mesa-host:8080", "127.0.0.1:1", "[::1]:8080", "a.example"])
def test_a_plain_host_header_names_the_server(host: str) -> None:
    assert server_url(None, "https", host) == f"https://{host}"


def test_a_configured_address_wins_and_is_quoted(machine) -> None:
    stated = server_url("https://x/'$(touch hacked)'/v1", "http", "other")

    done = machine.install(install_script(stated))

    assert stated == "https://x/'$(touch hacked)'"
    assert done.returncode == 1
    assert not (machine.root / "hacked").exists()


def test_the_shell_finds_no_fault_in_the_script() -> None:
    checked = subprocess.run(
        ["/bin/sh", "-n"],
        check=False,
        input=install_script("http://x"),
        text=True,
        capture_output=True,
    )

    assert (checked.returncode, checked.stderr) == (0, "")
