"""No acknowledged call is lost when the daemon is killed, whenever that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random

import pytest

from mesafs.testing.server import RunningServer
from support.kill_rounds import Scene, Tally
from support.seeds import SEED

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.needs("fuse", "root"),
    pytest.mark.timeout(600),
]

#: Each durable step of a mount, and how often a round is sure to reach it at most.
STEPS = {
    "journal.append": 12,
    "journal.begin": 3,
    "journal.sync": 3,
    "journal.dirsync": 3,
    "journal.release": 2,
    "overlay.stage": 12,
    "overlay.publish": 1,
    "overlay.remove": 8,
    "overlay.dirsync": 2,
    "overlay.sync": 1,
    "cache.stage": 5,
    "cache.publish": 6,
    "attributes.append": 4,
    "snapshot.tree": 3,
    "publish.pack": 2,
    "publish.send": 2,
    "publish.ack": 2,
}
ROUNDS_AT_EACH_STEP = 10
ROUNDS_AT_RANDOM = 60
ROUNDS_IN_ONE_REPOSITORY = 18

#: Rounds more for a step that no round has reached, before that fails the run.
MORE_ROUNDS = 20

Round = Callable[[Scene, int, Random], None]
Play = Callable[[Iterable[int], Tally, Round], None]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Plays rounds, in a new repository now and then, and looks at what was published."""
    scenes: list[Scene] = []

    def rounds(numbers: Iterable[int], tally: Tally, one: Round) -> None:
        for number in numbers:
            if not scenes or number % ROUNDS_IN_ONE_REPOSITORY == 0:
                folder = tmp_path / f"scene-{number}"
                folder.mkdir(mode=0o700)
                scenes.append(Scene(server, folder, name=f"work-{number}", tally=tally))
            scene = scenes[-1]
            try:
                one(scene, number, Random(f"{SEED}/{number}"))
                if number % 6 == 5:
                    scene.check_published()
                if number % ROUNDS_IN_ONE_REPOSITORY == ROUNDS_IN_ONE_REPOSITORY - 1:
                    scene.check_repository()
            except BaseException as error:
                error.add_note(f"MESA_SEED={SEED}, round {number}")
                raise

    with RunningServer.start(tmp_path / "server") as server:
        yield rounds
        for scene in scenes:
            scene.close()


def test_killed_at_each_named_step(
    play: Play, record_property: Callable[[str, object], None]
) -> None:
    steps = sorted(STEPS)
    tally = Tally()

    def one(scene: Scene, number: int, random: Random) -> None:
        step = steps[number % len(steps)]
        nth = 1 + random.randrange(STEPS[step])
        busy = random.random() < 0.5
        scene.round(f"{SEED}/{number}", faults=f"{step}:{nth}:kill", busy=busy)

    def again(scene: Scene, number: int, random: Random) -> None:
        step = next(step for step in steps if step not in tally.struck)
        scene.round(f"{SEED}/{number}", faults=f"{step}:1:kill", busy=True)

    play(range(ROUNDS_AT_EACH_STEP * len(steps)), tally, one)
    play(_while(lambda: len(tally.struck) < len(steps), MORE_ROUNDS), tally, again)

    record_property("told at the end", f"daemon, named steps, MESA_SEED={SEED}: {tally}")
    assert sorted(tally.struck) == steps


def test_killed_at_any_moment(play: Play, record_property: Callable[[str, object], None]) -> None:
    tally = Tally()

    def one(scene: Scene, number: int, random: Random) -> None:
        seconds, busy = random.random() * 0.12, random.random() < 0.5
        scene.round(f"{SEED}/{number}", kill_after_seconds=seconds, busy=busy)

    play(range(ROUNDS_AT_RANDOM), tally, one)

    record_property("told at the end", f"daemon, any moment, MESA_SEED={SEED}: {tally}")
    assert tally.struck["at random"] > ROUNDS_AT_RANDOM // 6


def _while(wanted: Callable[[], bool], most: int) -> Iterator[int]:
    for number in range(1000, 1000 + most):
        if not wanted():
            return
        yield number
