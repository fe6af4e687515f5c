"""What a checkout shows, keeps and publishes."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from mesafs.testing.bookmark import MemoryBookmark

Desk = Any


def test_edits_are_published_and_the_tree_is_what_is_seen(
    desk: Desk, bookmark: MemoryBookmark
) -> None:
    desk.mkdir(b"src")
    desk.write(b"src/a.txt", b"one\n")
    desk.write(b"top", b"two\n")
    desk.symlink(b"link", b"src/a.txt")

    desk.publish_all()

    assert bookmark.files() == {b"src/a.txt": b"one\n", b"top": b"two\n", b"link": b"src/a.txt"}
    assert desk.files() == bookmark.files()


def test_an_acknowledged_edit_is_there_after_the_daemon_dies(desk: Desk) -> None:
    desk.mkdir(b"d")
    desk.write(b"d/a", b"content")
    desk.rename(b"d", b"e")
    desk.symlink(b"e/l", b"a")

    desk.die()

    assert desk.files() == {b"e/a": b"content", b"e/l": b"a"}


def test_an_edit_of_a_published_file_survives_death_and_is_published_later(
    desk: Desk, bookmark: MemoryBookmark
) -> None:
    bookmark.edit({b"a": b"old", b"b": b"stays"})
    desk.follow()
    desk.write(b"a", b"new")
    desk.unlink(b"b")
    desk.die()

    desk.publish_all()

    assert bookmark.files() == {b"a": b"new"}


def test_a_publish_whose_answer_was_lost_is_asked_for_again_and_happens_once(
    desk: Desk, bookmark: MemoryBookmark
) -> None:
    desk.write(b"a", b"1")
    real, lost = bookmark.publish, []

    def cut(request: Any) -> Any:
        lost.append(real(request))
        raise ConnectionResetError

    bookmark.publish = cut  # type: ignore[method-assign]
    with pytest.raises(ConnectionResetError):
        desk.publish()
    bookmark.publish = real  # type: ignore[method-assign]
    commit = bookmark.state.commit
    desk.die()

    desk.publish_all()

    assert bookmark.state.commit == commit == lost[0].state.commit
    assert desk.files() == {b"a": b"1"}


def test_others_edits_appear_where_nothing_was_edited_here(
    desk: Desk, bookmark: MemoryBookmark
) -> None:
    bookmark.edit({b"d/a": b"1\n", b"d/b": b"1\n", b"c": b"1\n"})
    desk.follow()
    assert desk.files() == bookmark.files()
    bookmark.edit({b"d/a": b"2\n", b"c": None, b"e/new": b"3\n"})

    desk.follow()

    assert desk.files() == {b"d/a": b"2\n", b"d/b": b"1\n", b"e/new": b"3\n"}


def test_edits_of_different_lines_are_merged(desk: Desk, bookmark: MemoryBookmark) -> None:
    bookmark.edit({b"f": b"1\n2\n3\n4\n5\n6\n7\n"})
    desk.follow()
    desk.write(b"f", b"here\n2\n3\n4\n5\n6\n7\n")
    bookmark.edit({b"f": b"1\n2\n3\n4\n5\n6\nthere\n"})

    desk.publish_all()

    assert desk.files() == bookmark.files() == {b"f": b"here\n2\n3\n4\n5\n6\nthere\n"}


def test_edits_of_the_same_line_become_a_conflict_that_keeps_both(
    desk: Desk, bookmark: MemoryBookmark
) -> None:
    bookmark.edit({b"f": b"1\n"})
    desk.follow()
    desk.read(b"f")
    desk.write(b"f", b"here\n")
    bookmark.edit({b"f": b"there\n"})

    desk.publish_all()

    text = desk.read(b"f")
    assert bookmark.state.conflicts == (b"f",)
    assert b"here\n" in text
    assert b"there\n" in text
    assert text.startswith(b"<<<<<<<")


def test_an_edit_made_while_a_merge_is_adopted_is_merged_not_lost(
    desk: Desk, bookmark: MemoryBookmark
) -> None:
    bookmark.edit({b"f": b"1\n2\n3\n4\n5\n6\n7\n", b"g": b"1\n"})
    desk.follow()
    desk.files()
    desk.write(b"g", b"2\n")
    real = bookmark.publish

    def meanwhile(request: Any) -> Any:
        desk.write(b"f", b"1\n2\n3\n4\n5\n6\nlate\n")
        bookmark.edit({b"f": b"other\n2\n3\n4\n5\n6\n7\n"})
        answer = real(request)
        bookmark.publish = real  # type: ignore[method-assign]
        return answer

    bookmark.publish = meanwhile  # type: ignore[method-assign]
    desk.publish_all()

    assert desk.files()[b"f"] == bookmark.files()[b"f"] == b"other\n2\n3\n4\n5\n6\nlate\n"


def test_an_edit_made_before_its_conflict_was_seen_is_a_side_of_it_and_no_resolution(
    desk: Desk, bookmark: MemoryBookmark
) -> None:
    bookmark.edit({b"f": b"1\n"})
    desk.follow()
    desk.write(b"f", b"here\n")
    bookmark.edit({b"f": b"there\n"})
    real = bookmark.publish

    def meanwhile(request: Any) -> Any:
        bookmark.publish = real  # type: ignore[method-assign]
        answer = real(request)
        desk.write(b"f", b"here, again\n")
        return answer

    bookmark.publish = meanwhile  # type: ignore[method-assign]
    desk.publish_all()

    text = desk.read(b"f")
    assert bookmark.state.conflicts == (b"f",)
    assert b"here, again\n" in text
    assert b"there\n" in text


def test_a_git_folder_inside_stays_local_and_stops_nothing(
    desk: Desk, bookmark: MemoryBookmark
) -> None:
    desk.mkdir(b".git")
    desk.write(b".git/config", b"[core]\n")
    desk.write(b"a", b"1")
    desk.publish_all()
    desk.die()

    assert bookmark.files() == {b"a": b"1"}
    assert desk.files() == {b"a": b"1", b".git/config": b"[core]\n"}


def test_numbers_and_times_stay_through_publish_and_death(desk: Desk) -> None:
    desk.mkdir(b"d")
    desk.write(b"d/a", b"1")
    node = desk.node(b"d/a")
    os.utime(desk.checkout.overlay.path(node.ino), ns=(5, 1_234_567_891_234_567_891))
    before = (node.ino, desk.checkout.measure(node))

    desk.publish_all()
    published = desk.node(b"d/a")
    assert (published.ino, desk.checkout.measure(published)) == before
    desk.die()

    again = desk.node(b"d/a")
    assert (again.ino, desk.checkout.measure(again)) == before


@pytest.mark.parametrize("seed", range(40))
def test_any_mixture_of_edits_deaths_and_publishes_loses_nothing(
    make_desk: Callable[..., Desk], bookmark: MemoryBookmark, seed: int
) -> None:
    random = Random(seed)
    desk = make_desk()
    model: dict[bytes, bytes] = {}
    directories = {b""}

    def child_of(directory: bytes) -> bytes:
        name = random.choice([b"a", b"b", b"c", b"dd", b"e.txt"])
        return directory + b"/" + name if directory else name

    def below(path: bytes) -> bool:
        return any(p.startswith(path + b"/") for p in (*model, *directories))

    for _ in range(60):
        action = random.choice(
            ["write"] * 6
            + ["mkdir"] * 3
            + ["unlink", "rename", "rename", "rmdir", "publish", "die", "remote"]
        )
        path = child_of(random.choice(sorted(directories)))
        if action == "write" and path not in directories:
            model[path] = random.randbytes(random.randrange(40))
            desk.write(path, model[path])
        elif action == "mkdir" and path not in directories and path not in model:
            directories.add(path)
            desk.mkdir(path)
        elif action == "unlink" and path in model:
            del model[path]
            desk.unlink(path)
        elif action == "rmdir" and path in directories and not below(path):
            directories.discard(path)
            desk.rmdir(path)
        elif action == "rename":
            new = child_of(random.choice(sorted(directories)))
            if path in model and new not in directories:
                model[new] = model.pop(path)
                desk.rename(path, new)
            elif (
                path in directories
                and path != b""
                and new not in directories
                and new not in model
                and not new.startswith(path + b"/")
            ):
                moved = {p for p in directories if p == path or p.startswith(path + b"/")}
                directories = (directories - moved) | {new + p[len(path) :] for p in moved}
                for p in [p for p in model if p.startswith(path + b"/")]:
                    model[new + p[len(path) :]] = model.pop(p)
                desk.rename(path, new)
        elif action == "publish":
            desk.publish()
        elif action == "die":
            desk.die()
        elif action == "remote":
            bookmark.edit({b"remote/%d" % random.randrange(3): b"r%d" % random.randrange(9)})
        assert {p: c for p, c in desk.files().items() if not p.startswith(b"remote/")} == model

    desk.publish_all()

    published = {p: c for p, c in bookmark.files().items() if not p.startswith(b"remote/")}
    assert published == model
    desk.follow()
    assert desk.files() == bookmark.files()
    desk.die()
    assert desk.files() == bookmark.files()
