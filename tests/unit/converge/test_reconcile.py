"""What is wanted and what is there -> the plan, as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockhelper_cli.converge.plan import Plan
from stockhelper_cli.converge.reconcile import (
    DownRules,
    UpRules,
    reconcile_down,
    reconcile_restart,
    reconcile_start,
    reconcile_stop,
)
from stockhelper_cli.engine.protocol import ExecResult
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.labels import ONEOFF, PROJECT, SERVICE, TEMPORARY, UPGRADE
from tests.support.snapshots import Snapshot
from tests.unit.converge.world import World


def standing(world: World) -> World:
    world.up()
    return world


def pausing(world: World) -> World:
    standing(world).engine.change("sweep-app-1", status="paused")
    return world


def behind(world: World) -> World:
    standing(world).engine.answer = lambda name, command: ExecResult(0, b"0\x1f0\n", b"")
    return world


def gone(world: World) -> World:
    """Everything but the volume is gone: whether the database is behind can only be asked when it runs."""
    standing(world)
    for service in ("app", "migrate", "db"):
        world.engine.remove_container(f"sweep-{service}-1", force=True)
    return world


def with_orphan(world: World) -> World:
    world.leave_orphan()
    return world


def half_done(world: World) -> World:
    standing(world).kill("remove_container", "sweep-app-1", APP_OWN="2")
    return world


def created_only(world: World) -> World:
    standing(world).kill("stop", "sweep-app-1", APP_OWN="2")
    return world


def down(world: World, *, volumes: bool = False, remove_orphans: bool = False) -> Plan:
    return reconcile_down(world.load(), world.observe(), DownRules(volumes, remove_orphans))[0]


#: Name -> what is planned in a world.
SCENES: dict[str, Callable[[World], Plan]] = {
    "nothing there": lambda world: world.plan(),
    "only the database": lambda world: world.plan(UpRules(services=["db"])),
    "without migrating": lambda world: world.plan(UpRules(migrate=False)),
    "all as wanted": lambda world: standing(world).plan(),
    "an environment value changed": lambda world: standing(world).plan(APP_OWN="2"),
    "the image changed": lambda world: standing(world).plan(APP_IMAGE="app:2"),
    "the image is built anew": lambda world: standing(world).plan(UpRules(rebuilt=["app"])),
    "the database is behind": lambda world: behind(world).plan(),
    "started again": lambda world: gone(world).plan(),
    "the database changed": lambda world: standing(world).plan(DB_LEVEL="2"),
    "a network changed": lambda world: standing(world).plan(OTHER_LEVEL="2"),
    "the app is paused": lambda world: pausing(world).plan(),
    "a paused app changed": lambda world: pausing(world).plan(APP_OWN="2"),
    "an orphan stays": lambda world: with_orphan(world).plan(),
    "an orphan goes": lambda world: with_orphan(world).plan(UpRules(remove_orphans=True)),
    "killed with the successor running": lambda world: half_done(world).plan(APP_OWN="2"),
    "killed and taken back": lambda world: half_done(world).plan(),
    "killed with the successor created": lambda world: created_only(world).plan(APP_OWN="2"),
    "stop": lambda world: reconcile_stop(standing(world).load(), world.observe(), ()),
    "start after stop": lambda world: reconcile_start(stopped(world).load(), world.observe(), ()),
    "an upgrade was killed": lambda world: killed_while_upgrading(world).plan(),
    "one-offs were killed": lambda world: with_one_offs(world).plan(),
    "restart": lambda world: reconcile_restart(standing(world).load(), world.observe(), ()),
    "restart the database": lambda world: reconcile_restart(standing(world).load(), world.observe(), ["db"]),
    "down": lambda world: down(standing(world)),
    "down with volumes": lambda world: down(standing(world), volumes=True),
    "down with an orphan": lambda world: down(with_orphan(world)),
    "down and the orphan too": lambda world: down(with_orphan(world), remove_orphans=True),
}


def stopped(world: World) -> World:
    standing(world)
    for service in ("app", "db"):
        world.engine.stop(f"sweep-{service}-1")
    return world


def killed_while_upgrading(world: World) -> World:
    """The stack was stopped for it; its own server may still be at the volume."""
    own = {PROJECT: "sweep", SERVICE: "db", ONEOFF: "True", UPGRADE: "15"}
    stopped(world).engine.create_container("sweep-db-upgrade-15", {"Image": "postgres", "Labels": own})
    world.engine.start("sweep-db-upgrade-15")
    return world


def with_one_offs(world: World) -> World:
    """Our own have ended, or work on; a user's of `docker compose run` is not ours to remove."""
    standing(world)
    for name, own, alive in [("ended", True, False), ("working", True, True), ("users", False, False)]:
        marks = {PROJECT: "sweep", SERVICE: "migrate", ONEOFF: "True"} | ({TEMPORARY: "migrate"} if own else {})
        world.engine.create_container(f"sweep-run-{name}", {"Image": "app", "Labels": marks})
        world.engine.start(f"sweep-run-{name}")
        if not alive:
            world.engine.stop(f"sweep-run-{name}")
    return world


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.replace(" ", "-"))
def test_the_plan(tmp_path: Path, scene: str, snapshot: Snapshot) -> None:
    snapshot(str(SCENES[scene](World(tmp_path))))


def test_an_orphan_in_a_changed_network_is_not_robbed_of_it(tmp_path: Path) -> None:
    world = with_orphan(World(tmp_path))
    with pytest.raises(StockhelperError, match="cannot be made anew") as raised:
        world.plan(OTHER_LEVEL="2")
    assert raised.value.code == "engine.conflict"
    assert raised.value.next == ("stockhelper up --remove-orphans",)
    assert world.plan(UpRules(remove_orphans=True), OTHER_LEVEL="2")
