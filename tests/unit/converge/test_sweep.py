"""However far an `up` came before it was killed, the next one reaches the same end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockhelper_cli.converge.images import inputs_digest
from stockhelper_cli.engine.protocol import BuildOptions
from stockhelper_cli.labels import ONEOFF, PROJECT, SERVICE, TEMPORARY
from tests.support.fake_engine import FakeEngine
from tests.unit.converge.world import Killed, World

CHANGES = {
    "a fresh up": {},
    "a changed app": {"APP_LEVEL": "2"},
    "a changed database": {"DB_LEVEL": "2"},
    "a changed network": {"NET_LEVEL": "2"},
    "both networks changed": {"NET_LEVEL": "2", "OTHER_LEVEL": "2"},
    "everything changed": {"APP_LEVEL": "2", "DB_LEVEL": "2", "NET_LEVEL": "2"},
}


def end_state(engine: FakeEngine) -> list[tuple[str, str, tuple[str, ...]]]:
    return sorted(
        (container.name, container.status, tuple(sorted(a.network for a in container.networks)))
        for container in engine.containers([])
    )


def nameless_volumes(engine: FakeEngine) -> list[str]:
    """Return the volumes of the database that nobody gave a name."""
    containers = [container for container in engine.containers([]) if container.name.endswith("sweep-db-1")]
    return sorted({mount.name for c in containers for mount in c.mounts if mount.target == "/scratch"})


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.replace(" ", "-"))
def test_up_after_a_kill_at_any_call_reaches_the_same_state(tmp_path: Path, change: str) -> None:
    """After a kill at any engine call, the next `up` reaches the same state as an uninterrupted one."""
    environ = CHANGES[change]

    def begin() -> World:
        world = World(tmp_path)
        if environ:
            world.up()
            world.engine.calls.clear()
        return world

    whole = begin()
    whole.up(**environ)
    expected = end_state(whole.engine)
    assert [(name, status) for name, status, _ in expected] == [
        ("sweep-app-1", "running"), ("sweep-db-1", "running"), ("sweep-migrate-1", "exited"),
    ]  # fmt: skip
    for lives in range(len(whole.engine.calls)):
        world = begin()
        engine, kept = world.engine, nameless_volumes(world.engine)
        engine.lives = lives
        with pytest.raises(Killed):
            world.up(**environ)
        engine.lives = None
        world.up(**environ)
        assert end_state(engine) == expected, f"killed after {lives} calls"
        assert not environ or nameless_volumes(engine) == kept, f"killed after {lives} calls"
        before = list(engine.calls)
        assert not world.up(**environ).plan.changes, f"killed after {lives} calls"
        assert engine.calls == before


@pytest.mark.parametrize("change", [c for c in CHANGES if CHANGES[c]], ids=lambda change: change.replace(" ", "-"))
def test_change_reverted_after_a_kill_at_any_call_is_undone(tmp_path: Path, change: str) -> None:
    """If a change is reverted after a kill at any engine call, `up` restores the previous state."""

    def begin() -> World:
        world = World(tmp_path)
        world.up()
        return world

    before = begin()
    expected = end_state(before.engine)
    before.engine.calls.clear()
    before.up(**CHANGES[change])
    for lives in range(len(before.engine.calls)):
        world = begin()
        engine, kept = world.engine, nameless_volumes(world.engine)
        engine.lives = len(engine.calls) + lives
        with pytest.raises(Killed):
            world.up(**CHANGES[change])
        engine.lives = None
        world.up()
        assert end_state(engine) == expected, f"killed after {lives} calls"
        assert nameless_volumes(engine) == kept, f"killed after {lives} calls"
        assert not world.up().plan.changes, f"killed after {lives} calls"


def test_a_digest_of_inputs_is_of_content_and_not_of_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    build = BuildOptions(tmp_path, "Dockerfile", "x", args={"K": "v"})
    first = inputs_digest(build, ["a"])
    (tmp_path / "a").write_text("1")
    assert inputs_digest(build, ["a"]) == first
    changes: list[Callable[[], object]] = [
        lambda: (tmp_path / "a").write_text("2"),
        lambda: (tmp_path / "a").chmod(0o755),
    ]
    for change in changes:
        before = inputs_digest(build, ["a"])
        change()
        assert inputs_digest(build, ["a"]) != before


def test_one_off_that_is_removed_by_its_own_command_is_no_error(tmp_path: Path) -> None:
    """`migrate current` needs no lock: it may end, and remove its container, while an `up` is about to."""
    world = World(tmp_path)
    world.up()
    engine, name = world.engine, "sweep-run-ended"
    marks = {PROJECT: "sweep", SERVICE: "app", ONEOFF: "True", TEMPORARY: "app"}
    engine.create_container(name, {"Image": "app", "Labels": marks})
    engine.start(name)
    engine.stop(name)

    def first(call: str, resource: str) -> None:
        if (call, resource) == ("remove_container", name):
            engine.intercept = lambda call, name: None
            engine.remove_container(name)

    engine.intercept = first
    result = world.up()
    assert f"remove container {name}" in str(result.plan)
    assert name not in [container.name for container in engine.containers([])]
