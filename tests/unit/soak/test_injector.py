"""The fault injector: what it decides, whom it stops, and that it always continues all of them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean

import psutil
import pytest

from tests.soak.injector import Group, Injector, plan
from tests.support import ROOT
from tests.support.waiting import eventually

KINDS = ("engine", "command")
#: Stops all of its arguments until it is killed.
SCRIPT = """
import psutil, sys, time
from tests.soak.injector import Injector
group = [psutil.Process(int(pid)) for pid in sys.argv[1:]]
with Injector(5, ["x"], lambda: {"x": [group]}, print, speed=20):
    time.sleep(600)
"""


@pytest.fixture
def sleepers() -> Iterator[list[psutil.Process]]:
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(4)]
    yield [psutil.Process(child.pid) for child in children]
    for child in children:
        child.kill()
        child.wait()


def injector(sleepers: Sequence[psutil.Process], said: list[str] | None = None) -> Injector:
    """Return one that may stop the first three of the sleepers."""
    groups: Mapping[str, Sequence[Group]] = {"engine": [sleepers[:2]], "command": [sleepers[2:3]]}
    return Injector(5, KINDS, lambda: groups, ([] if said is None else said).append, speed=20)


def any_stopped(processes: Sequence[psutil.Process]) -> bool:
    return any(process.status() == psutil.STATUS_STOPPED for process in processes)


def test_plan_of_a_seed_is_always_the_same() -> None:
    first, again, other = (list(itertools.islice(plan(seed, "engine"), 50)) for seed in (7, 7, 8))
    assert first == again
    assert first not in (other, list(itertools.islice(plan(7, "container"), 50)))


def test_plan_keeps_to_its_limits() -> None:
    """Stops take 0.1 to 20 s, most under 1 s; a kind is stopped more than once in ten seconds."""
    stops = list(itertools.islice(plan(1, "engine"), 2000))
    assert all(0.1 <= stop.seconds <= 20 for stop in stops)
    assert 0.6 < mean(stop.seconds < 1 for stop in stops) < 0.9
    assert max(stop.seconds for stop in stops) > 15
    assert mean(stop.after for stop in stops) < 10


def test_choice_of_victims_follows_the_seed(sleepers: list[psutil.Process]) -> None:
    """The same seed chooses the same processes: all of a group, or one of it, or none where there is none."""
    groups = [sleepers[:3], sleepers[3:]]
    first, again = ([tuple(stop.choose(groups)) for stop in itertools.islice(plan(3, "x"), 60)] for _ in "ab")
    assert first == again
    assert set(first) == {tuple(sleepers[:3]), *((one,) for one in sleepers)}
    assert next(plan(3, "x")).choose([]) == []


def test_injector_stops_each_kind_and_continues_all(sleepers: list[psutil.Process]) -> None:
    """It stops what it was given and nothing else, and says so; at the end all of it runs."""
    said: list[str] = []
    with injector(sleepers, said) as running:
        eventually(lambda: all(running.counts[kind] > 3 for kind in KINDS))
        assert not any_stopped(sleepers[3:])
    assert not any_stopped(sleepers)
    assert len(said) == running.counts.total()
    assert all(line.startswith(KINDS) and f"{sleepers[3].pid} " not in line for line in said)


def test_injector_decides_the_same_for_a_seed(sleepers: list[psutil.Process]) -> None:
    """The stops of a kind, their lengths and their victims are the same in each run."""
    runs = []
    for _ in range(2):
        said: list[str] = []
        with injector(sleepers, said) as running:
            eventually(lambda running=running: running.counts["command"] >= 4)  # type: ignore[misc]
        runs.append([line for line in said if line.startswith("command")][:4])
    assert runs[0] == runs[1]


def test_injector_stops_nothing_while_quiet(sleepers: list[psutil.Process]) -> None:
    with injector(sleepers) as running:
        eventually(lambda: any_stopped(sleepers))
        with running.quiet():
            before = running.counts.total()
            assert not any_stopped(sleepers)
        eventually(lambda: running.counts.total() > before)


def test_injector_continues_all_after_an_exception(sleepers: list[psutil.Process]) -> None:
    def interrupted() -> None:
        with injector(sleepers):
            eventually(lambda: any_stopped(sleepers))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not any_stopped(sleepers)


def test_injector_that_fails_continues_all(sleepers: list[psutil.Process]) -> None:
    """An exception in the injector's own thread is raised at the end, and nothing stays stopped."""
    asked: list[bool] = []

    def groups() -> Mapping[str, Sequence[Group]]:
        asked.append(True)
        if len(asked) > 1:
            raise RuntimeError("no list")
        return {"x": [sleepers]}

    def failing() -> None:
        with Injector(5, ["x"], groups, lambda line: None, speed=20):
            eventually(lambda: len(asked) > 1)

    with pytest.raises(RuntimeError, match="no list"):
        failing()
    assert not any_stopped(sleepers)


def test_watchdog_continues_all_after_a_kill(sleepers: list[psutil.Process]) -> None:
    pids = [str(process.pid) for process in sleepers]
    killed = subprocess.Popen([sys.executable, "-c", SCRIPT, *pids], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: any_stopped(sleepers))
    finally:
        killed.kill()
        killed.wait()
    eventually(lambda: not any_stopped(sleepers))
