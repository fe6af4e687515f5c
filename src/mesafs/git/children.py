"""Running the git binary as a child that hears nothing but what we say.

No configuration of the machine or the user, no prompt, no ``GIT_*`` of the caller, a fixed PATH, and
``core.fsync=all`` so that what git reports as stored has reached the disk. Text that came from a
client is passed on standard input or after ``--end-of-options``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mesafs.base.errors import Corrupt

_PATH = "/usr/local/bin:/usr/bin:/bin"


class GitFailed(Corrupt):
    """Git ended with an error where none was expected."""


def environment(**extra: str) -> dict[str, str]:
    """The whole environment of a git child."""
    return {
        "PATH": _PATH,
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:http",
        "GIT_NO_REPLACE_OBJECTS": "1",
        **extra,
    }


def command(repository: Path, *arguments: str) -> list[str]:
    """An argument list that runs git on this bare repository and no other."""
    return [
        "git",
        "-c",
        f"safe.directory={repository}",
        "-c",
        "core.fsync=all",
        "-c",
        "core.fsyncMethod=fsync",
        f"--git-dir={repository}",
        *arguments,
    ]


def run(
    repository: Path,
    arguments: Sequence[str],
    *,
    stdin: bytes = b"",
    extra_environment: Mapping[str, str] | None = None,
) -> bytes:
    """Run git to its end and return what it wrote; a failure raises with git's own words."""
    done = subprocess.run(
        command(repository, *arguments),
        input=stdin,
        capture_output=True,
        env=environment(**(extra_environment or {})),
        check=False,
    )
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip()[:500]
        raise GitFailed(f"git {arguments[0]} ended with {done.returncode}: {words}")
    return done.stdout
