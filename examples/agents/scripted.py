#!/usr/bin/env python3
"""An agent without a model: a fixed piece of work on a folder of Python sources, with ordinary tools.

    examples/agents/scripted.py FOLDER

It knows nothing of mesafs. It edits with sed, applies a patch with git, writes files with Python,
packs and unpacks with tar, renames and deletes; and says each step on a line.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

PATCHED = "stdlib/bisect.py"
SCRIPT = """
from pathlib import Path
notes = Path("notes")
notes.mkdir()
for number in range(20):
    (notes / f"finding-{number:02}.md").write_text(f"# Finding {number}\\n\\nNothing is lost.\\n")
"""


def main(folder: Path) -> None:
    step("sed", "edits stdlib/textwrap.py")
    run(folder, "sed", "-i", "1i # An agent was here.", "stdlib/textwrap.py")

    step("git apply", f"patches {PATCHED}")
    run(folder, "git", "apply", "-", text=patch_of(folder / PATCHED))

    step("python", "writes 20 files into notes/")
    run(folder, sys.executable, "-I", "-c", SCRIPT)

    step("tar", "packs stdlib/json and unpacks it as copies/stdlib/json")
    (folder / "copies").mkdir()
    run(folder, "tar", "-czf", "copies/json.tar.gz", "stdlib/json")
    run(folder, "tar", "-xzf", "copies/json.tar.gz", "-C", "copies")

    step("mv", "renames stdlib/colorsys.py and the folder stdlib/wsgiref")
    run(folder, "mv", "stdlib/colorsys.py", "stdlib/colours.py")
    run(folder, "mv", "stdlib/wsgiref", "stdlib/gateway")

    step("rm", "deletes stdlib/this.py and the folder stdlib/xmlrpc")
    run(folder, "rm", "-r", "stdlib/this.py", "stdlib/xmlrpc")

    step("chmod", "makes stdlib/timeit.py executable")
    run(folder, "chmod", "+x", "stdlib/timeit.py")


def step(tool: str, what: str) -> None:
    print(f"    {tool:<10} {what}", flush=True)


def run(folder: Path, *command: str, text: str | None = None) -> None:
    # git must not mistake a repository around the folder for the folder's own.
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    subprocess.run(command, cwd=folder, env=env, input=text, text=True, check=True)


def patch_of(file: Path) -> str:
    old = file.read_text().splitlines(keepends=True)
    new = ["# Reviewed, and found to be in order.\n", *old, "# The end.\n"]
    return "".join(difflib.unified_diff(old, new, f"a/{PATCHED}", f"b/{PATCHED}"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    main(Path(sys.argv[1]))
