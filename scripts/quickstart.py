"""The story of scripts/quickstart, told by doing it. Run through that script.

Everything it makes lies in one folder under /var/tmp (not /tmp, which may be memory, where a mount
refuses to keep its journal), and goes at the end unless --keep is given.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesafs.sdk.filesystem import Filesystem
from mesafs.sdk.server_url import parse_url
from mesafs.sdk.sync_api import SyncApi
from mesafs.sdk.transport_http import HttpTransport
from mesafs.sync import Mesa

ROOT = Path(__file__).resolve().parent.parent
MESA = str(Path(sys.executable).parent / "mesa")
ORGANISATION = "my-org"
REPOSITORY = "agent-workspace"
WANTED_FILES = 5_000
STEP_SECONDS = 60


class Failed(Exception):
    """A step that did not go as told; the text says which."""


class Story:
    """Says each step while it happens, and remembers what came out of it and how long it took."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._begun = time.monotonic()

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Yields a list: what is put into it stands behind the step in the summary."""
        print(f"… {what}", flush=True)
        facts: list[str] = []
        begun = time.monotonic()
        yield facts
        line = f"{what}{': ' if facts else ''}{', '.join(facts)}"
        self._lines.append(f"{time.monotonic() - begun:7.2f} s  {line}")

    def summary(self) -> str:
        total = f"{time.monotonic() - self._begun:7.2f} s  all of it"
        return "\n".join(["", "What happened", *self._lines, total, ""])


class Place:
    """The folders of this run, and the environment of everything that it starts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "source"
        self.data = root / "server"
        self.key_file = root / "admin.key"
        self.server_pid = 0
        self.first, self.second = root / "mnt", root / "elsewhere"
        for folder in (self.source, root / "home"):
            folder.mkdir()

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Nothing of the caller's but PATH, so that the run shows what a bare sandbox would."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "home"),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            **(extra or {}),
        }


def main() -> int:
    keep = "--keep" in sys.argv[1:]
    possible = fuse_is_possible() and "--no-mount" not in sys.argv[1:]
    if not possible:
        print("! nothing can be mounted here (see the remedy above), so the same story runs on the")
        print("  in-process checkout: the mount's own code, without the kernel in front of it.")
    parent = os.environ.get("MESA_QUICKSTART_DIR", "/var/tmp")
    folder = Path(tempfile.mkdtemp(prefix="mesafs-quickstart-", dir=parent))
    place, story = Place(folder), Story()
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            if possible:
                tell(place, story, cleanup, keep=keep)
            else:
                tell_without_kernel(place, story, cleanup)
        except Failed as failure:
            print(story.summary())
            print(f"! {failure}", file=sys.stderr)
            return 1
        print(story.summary())
        if keep and possible:
            cleanup.pop_all()
    print_next(place, kept=keep and possible)
    return 0


def fuse_is_possible() -> bool:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return os.geteuid() == 0 or shutil.which("fusermount3") is not None


@dataclass(frozen=True)
class Begun:
    """A server with an imported repository, and a token for it."""

    admin: Mesa
    admin_key: str
    url: str
    key_id: str
    token: str
    imported: str


def begin(place: Place, story: Story, cleanup: contextlib.ExitStack) -> Begun:
    """The part that needs no mount: server, repository, import, key, token."""
    with story.step("collect real sources") as facts:
        count, size = collect_sources(place.source)
        facts.append(f"{count:,} files, {size / 1e6:.0f} MB")

    with story.step("start the server") as facts:
        url = start_server(place, cleanup)
        facts.append(url)
    admin_key = place.key_file.read_text().strip()
    admin = cleanup.enter_context(Mesa(api_key=admin_key, api_url=url, org=ORGANISATION))

    with story.step(f"create {ORGANISATION}/{REPOSITORY} and import them") as facts:
        admin.repos.create(name=REPOSITORY)
        settings = {"MESA_API_KEY": admin_key, "MESA_ORG": ORGANISATION, "MESA_API_URL": url}
        mesa(place, settings, "repo", "import", str(place.source), "--repo", REPOSITORY)
        imported = bookmark(admin)
        facts.append(f"change {imported[:8]}")

    with story.step("make an API key that may read and write") as facts:
        key = admin.api_keys.create(name="quickstart", scopes=["read", "write"])
        facts.append(key.id)
    with story.step("sign a token with it, without network, for one hour") as facts:
        signer = cleanup.enter_context(Mesa(api_key=key.key, api_url=url, org=ORGANISATION))
        repository = f"{ORGANISATION}/{REPOSITORY}"
        scopes = ["read", "write"]
        signed = signer.tokens.create(scopes=scopes, repos=[repository], ttl_seconds=3600)
        facts.append(f"read and write in {repository} only")
    return Begun(admin, admin_key, url, key.id, signed.token, imported)


def tell_without_kernel(place: Place, story: Story, cleanup: contextlib.ExitStack) -> None:
    """The story where nothing can be mounted."""
    begun = begin(place, story, cleanup)
    transport = cleanup.enter_context(
        contextlib.closing(HttpTransport(parse_url(begun.url), credential=begun.token))
    )
    api = SyncApi(transport)
    with story.step("open the repository inside this process") as facts:
        here = cleanup.enter_context(
            Filesystem(api, ORGANISATION, REPOSITORY, folder=place.root / "checkout")
        )
        names = here.listdir("stdlib")
        head = here.read("stdlib/json/__init__.py").decode().splitlines()[0]
        print(f"    {'  '.join(names[:4])}\n    {head}")
        facts.append(f"{len(names)} names in stdlib, fetched as they were read")
    with story.step("edit, create, rename and delete"):
        here.write(
            "stdlib/json/__init__.py", here.read("stdlib/json/__init__.py") + b"\n# edited\n"
        )
        here.mkdir("notes/today", parents=True)
        here.write("notes/today/TODO.md", b"- look around\n- edit\n")
        here.rename("stdlib/textwrap.py", "stdlib/text_wrap.py")
        here.remove("stdlib/this.py")
    with story.step("wait until the server has it all"):
        here.sync()
    with story.step("ask the SDK what changed") as facts:
        facts.append(show_change(begun.admin, begun.imported))
    with story.step("compare this checkout's tree with the server's") as facts:
        if here.tree != server_tree(begun.url, begun.token):
            raise Failed(f"the checkout is at {here.tree}, and the server is not")
        facts.append(f"both are {here.tree[:12]}")
    with story.step("open it elsewhere, and compare again") as facts:
        there = cleanup.enter_context(
            Filesystem(api, ORGANISATION, REPOSITORY, folder=place.root / "other-checkout")
        )
        if there.tree != here.tree or there.read("notes/today/TODO.md") == b"":
            raise Failed("the second checkout shows something else")
        facts.append(f"both are {there.tree[:12]}")
    with story.step("git clone") as facts:
        facts.append(clone(place, begun.url, begun.token))
    with story.step("revoke the key that signed the token") as facts:
        begun.admin.api_keys.revoke(key_id=begun.key_id)
        facts.append(refused_by_rest(begun.url, begun.token))


def tell(place: Place, story: Story, cleanup: contextlib.ExitStack, *, keep: bool) -> None:
    begun = begin(place, story, cleanup)
    admin, url, token, imported = begun.admin, begun.url, begun.token, begun.imported
    settings = {"MESA_API_KEY": begun.admin_key, "MESA_ORG": ORGANISATION, "MESA_API_URL": url}
    only_token = {"MESA_API_KEY": token, "MESA_ORG": ORGANISATION, "MESA_API_URL": url}

    work = place.first / ORGANISATION / REPOSITORY
    with story.step("mount, with only that token in the environment"):
        mount(place, only_token, place.first, cleanup)

    with story.step("look around") as facts:
        names = sorted(entry.name for entry in (work / "stdlib").iterdir())
        head = (work / "stdlib" / "json" / "__init__.py").read_text().splitlines()[0]
        print(f"    $ ls stdlib | head -4\n    {'  '.join(names[:4])}")
        print(f"    $ head -1 stdlib/json/__init__.py\n    {head}")
        facts.append(f"{len(names)} names in stdlib, fetched as they were read")

    with story.step("an agent works with sed, git apply, python, tar, mv, rm"):
        check([sys.executable, str(ROOT / "examples/agents/scripted.py"), str(work)], place)

    with story.step("wait until the server has it all"):
        mesa(place, {**only_token, "MESA_MOUNT_POINT": str(place.first)}, "sync")

    with story.step("ask the SDK what changed") as facts:
        facts.append(show_change(admin, imported))

    with story.step("compare the folder, as plain git sees it, with the server's tree") as facts:
        facts.append(same_tree(place, work, url, token))

    with story.step("unmount, and mount elsewhere"):
        unmount(place, only_token, place.first)
        mount(place, only_token, place.second, cleanup)
    with story.step("compare again") as facts:
        facts.append(same_tree(place, place.second / ORGANISATION / REPOSITORY, url, token))

    with story.step("git clone") as facts:
        facts.append(clone(place, url, token))

    with story.step("revoke the key that signed the token") as facts:
        admin.api_keys.revoke(key_id=begun.key_id)
        facts.append(refusal(place.second / ORGANISATION / REPOSITORY, url, token))

    if keep:
        with story.step("renew the mount's credential, for you"):
            mesa(place, settings, "mount", "-d", "--mount-point", str(place.second), "-y")


# The steps.


def collect_sources(target: Path) -> tuple[int, int]:
    """Copy real source trees of this machine until there are enough files."""
    library = Path(sysconfig.get_path("stdlib"))
    count = size = 0
    for name, tree in (
        ("stdlib", library),
        ("packages", Path(sysconfig.get_path("purelib"))),
        ("dist-packages", Path("/usr/lib/python3/dist-packages")),
        ("perl", Path("/usr/share/perl")),
        ("zoneinfo", Path("/usr/share/zoneinfo")),
        ("doc", Path("/usr/share/doc")),
    ):
        if count >= WANTED_FILES or not tree.is_dir():
            continue
        shutil.copytree(tree, target / name, ignore=_no_sources, ignore_dangling_symlinks=True)
        for folder, _, files in os.walk(target / name):
            count += len(files)
            size += sum(Path(folder, file).lstat().st_size for file in files)
    if count < WANTED_FILES:
        raise Failed(f"this machine has only {count} files to show; {WANTED_FILES} are wanted")
    return count, size


def _no_sources(folder: str, names: Sequence[str]) -> set[str]:
    left_out = {"__pycache__", "site-packages", "dist-packages", ".git"}
    return {
        name
        for name in names
        if name in left_out
        or name.endswith((".so", ".a", ".pyc"))
        or not os.access(Path(folder, name), os.R_OK)
    }


def start_server(place: Place, cleanup: contextlib.ExitStack) -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = cleanup.enter_context((place.root / "server.log").open("wb"))
    command = [MESA, "serve", "--port", str(port), "--data-dir", str(place.data)]
    command += ["--org", ORGANISATION, "--admin-key-file", str(place.key_file)]
    server = subprocess.Popen(
        command, env=place.environment(), stdout=log, stderr=log, start_new_session=True
    )
    cleanup.callback(stop, server)
    place.server_pid = server.pid
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + STEP_SECONDS
    while not answers(f"{url}/readyz"):
        if server.poll() is not None or time.monotonic() > deadline:
            said = (place.root / "server.log").read_text(errors="replace")[-2000:]
            raise Failed(f"the server did not start:\n{said}")
        time.sleep(0.02)
    return url


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def mount(
    place: Place, settings: Mapping[str, str], point: Path, cleanup: contextlib.ExitStack
) -> None:
    point.mkdir()
    mesa(place, settings, "mount", "--daemonize", "--mount-point", str(point), "-y")
    cleanup.callback(_unmount_if_there, place, settings, point)


def unmount(place: Place, settings: Mapping[str, str], point: Path) -> None:
    mesa(place, {**settings, "MESA_MOUNT_POINT": str(point)}, "unmount")


def _unmount_if_there(place: Place, settings: Mapping[str, str], point: Path) -> None:
    if os.path.ismount(point):
        with contextlib.suppress(Failed):  # a revoked key: what it could not publish, it says
            unmount(place, settings, point)


def mesa(place: Place, settings: Mapping[str, str], *arguments: str) -> str:
    return check([MESA, *arguments], place, settings)


def check(command: Sequence[str], place: Place, settings: Mapping[str, str] | None = None) -> str:
    """Run a command; its last words are the reason if it fails. The agent's go to the screen."""
    shown = command[0] == sys.executable
    try:
        done = subprocess.run(
            command,
            env=place.environment(settings),
            stdout=None if shown else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command[:3])} did not end in {STEP_SECONDS} s") from None
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:3])} (status {done.returncode}): {done.stderr.strip()}")
    return done.stdout or ""


def bookmark(mesa: Mesa) -> str:
    return mesa.bookmarks.get(repo=REPOSITORY, bookmark="main").change_id


def show_change(mesa: Mesa, imported: str) -> str:
    change = mesa.changes.get(repo=REPOSITORY, change_id=bookmark(mesa))
    diff = mesa.diffs.get(repo=REPOSITORY, base_change_id=imported, head_change_id=change.id)
    kinds: dict[str, list[str]] = {}
    for entry in diff.entries:
        moved = f"  (was {entry.old_path})" if entry.old_path else ""
        kinds.setdefault(entry.status, []).append(f"{entry.path}{moved}")
    for status, paths in kinds.items():
        more = f"  and {len(paths) - 1} more" if len(paths) > 1 else ""
        print(f"    {status:<9} {paths[0]}{more}")
    return (
        f"change {change.id[:8]} at commit {change.current_commit_oid[:12]}, "
        f"{diff.stats.entries} files, +{diff.stats.additions} -{diff.stats.deletions} lines"
    )


def same_tree(place: Place, folder: Path, url: str, token: str) -> str:
    ours, theirs = git_tree(place, folder), server_tree(url, token)
    if ours != theirs:
        raise Failed(f"git write-tree of the folder is {ours}, and the server has {theirs}")
    return f"both are {ours[:12]}"


def git_tree(place: Place, folder: Path) -> str:
    """``git write-tree`` of a folder, with an index and an object store outside of it."""
    store = place.root / "plain.git"
    env = {"GIT_INDEX_FILE": str(place.root / "plain.index")}
    where = ["git", "-c", "safe.directory=*", "-c", "core.autocrlf=false"]
    check([*where, "init", "--quiet", "--bare", str(store)], place, env)
    Path(env["GIT_INDEX_FILE"]).unlink(missing_ok=True)
    where += ["-c", "core.bare=false", f"--git-dir={store}", f"--work-tree={folder}"]
    check([*where, "-C", str(folder), "add", "--all", "--force", "."], place, env)
    return check([*where, "write-tree"], place, env).strip()


def server_tree(url: str, token: str) -> str:
    with contextlib.closing(HttpTransport(parse_url(url), credential=token)) as transport:
        found = SyncApi(transport).resolve(ORGANISATION, [(REPOSITORY, None)])
    return found.repositories[0].tree.hex()


def clone(place: Place, url: str, token: str) -> str:
    target = place.root / "clone"
    password = base64.b64encode(f"t:{token}".encode()).decode()
    settings = {  # not on the command line, where every user of the machine could read it
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {password}",
    }
    address = f"{url}/{ORGANISATION}/{REPOSITORY}.git"
    check(["git", "clone", "--quiet", address, str(target)], place, settings)
    tree = check(["git", "-C", str(target), "rev-parse", "HEAD^{tree}"], place).strip()
    if tree != server_tree(url, token):
        raise Failed(f"the clone's tree is {tree}, and the server has another")
    commits = check(["git", "-C", str(target), "rev-list", "--count", "HEAD"], place).strip()
    return f"tree {tree[:12]} again, {commits} commits"


def refused_by_rest(url: str, token: str) -> str:
    """How a request is refused now."""
    request = urllib.request.Request(f"{url}/v1/whoami")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10):
            raise Failed("the server still takes the token of a revoked key")
    except urllib.error.HTTPError as error:
        with error:
            code = json.load(error)["error"]["code"]
        return f"REST says {error.code} {code}"


def refusal(work: Path, url: str, token: str) -> str:
    """How a request and a read in the mount are refused now."""
    by_rest = refused_by_rest(url, token)
    deadline = time.monotonic() + 5
    while True:
        try:
            (work / "stdlib" / "textwrap.py").read_bytes()
        except PermissionError as error:
            return f"{by_rest}, the mount {error.strerror!r}"
        if time.monotonic() > deadline:
            raise Failed("the mount still reads with the token of a revoked key")
        time.sleep(0.02)


def print_next(place: Place, *, kept: bool) -> None:
    if kept:
        print(f"Still running, in {place.root}. Next")
        print(f"  cd {place.second / ORGANISATION / REPOSITORY}")
        home = f"HOME={place.root / 'home'}"
        print(f"  {home} {MESA} status {place.second}")
        print(f"  {home} {MESA} unmount {place.second} && kill {place.server_pid}")
    else:
        print("Next")
        print("  .venv/bin/mesa serve --data-dir ./data               a server that stays")
        print("  curl -fsSL http://127.0.0.1:8080/install.sh | sh     the command, on any machine")
        print("  less docs/guide/getting-started.md                   mount it and go on")


if __name__ == "__main__":
    sys.exit(main())
