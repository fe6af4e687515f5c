"""git as a stranger would run it: no user or system settings, no terminal, English."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a git that reads nobody's settings."""
    return {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C",
        "HOME": "/nonexistent",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "A Tester",
        "GIT_AUTHOR_EMAIL": "tester@example.com",
        "GIT_COMMITTER_NAME": "A Tester",
        "GIT_COMMITTER_EMAIL": "tester@example.com",
        **(extra or {}),
    }


def git(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input_bytes: bytes | None = None,
) -> bytes:
    """Run git and return its output; a failure is an error that shows what git said."""
    command: Sequence[str] = ("git", "-c", "safe.directory=*", *(str(part) for part in arguments))
    done = subprocess.run(
        command, cwd=cwd, env=environment(env), input=input_bytes, capture_output=True, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise AssertionError(f"{' '.join(command)} (status {done.returncode}): {said}")
    return done.stdout


def write_tree(folder: Path) -> str:
    """The tree id that plain git gives to ``folder``, by an index and object store of its own.

    Nothing is written inside the folder, and its ``.gitignore`` files do not count.
    """
    with tempfile.TemporaryDirectory(prefix="write-tree-") as scratch:
        store = Path(scratch, "store.git")
        git("init", "--quiet", "--bare", store)
        (store / "info" / "exclude").unlink(missing_ok=True)
        (store / "info" / "attributes").write_text("* -text -filter -ident\n")
        env = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
        options = ("-c", "core.autocrlf=false", "-c", "core.bare=false", "-c", "core.fileMode=true")
        where = (f"--git-dir={store}", f"--work-tree={folder}")
        git(*options, *where, "add", "--all", "--force", ".", cwd=folder, env=env)
        return git(*where, "write-tree", env=env).decode().strip()
