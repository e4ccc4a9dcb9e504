"""Which volumes go with a stack that is taken down with its volumes."""

from __future__ import annotations

from pathlib import Path

from stockhelper_cli import stack
from tests.unit.converge.world import STACK, World

#: A name as an engine gives it to a volume without one.
ENGINES_NAME = "0123456789abcdef" * 4


def down_with_volumes(world: World) -> None:
    stack.down(world.load(), world.engine, stack.DownOptions(volumes=True, backup=False), lambda event: None)


def test_anonymous_volume_of_a_recreated_container_goes(tmp_path: Path) -> None:
    """A successor mounts it by its name, which the engine takes for a reason to keep it."""
    world = World(tmp_path)
    world.up()
    first = {mount.name for mount in world.container("db").mounts}
    world.up(DB_LEVEL="2")
    assert {mount.name for mount in world.container("db").mounts} == first
    down_with_volumes(world)
    left = {volume.name for volume in world.engine.volumes([])}
    assert left.isdisjoint(first)


def test_external_volume_named_like_an_anonymous_one_stays(tmp_path: Path) -> None:
    """The data of a volume that is not the project's own is never removed, whatever its name."""
    external = f"volumes: {{data: {{external: true, name: {ENGINES_NAME}}}}}"
    world = World(tmp_path, STACK.replace("volumes: {data: {}}", external))
    world.engine.create_volume(ENGINES_NAME, {})
    world.up()
    world.up(DB_LEVEL="2")
    down_with_volumes(world)
    assert world.engine.volume(ENGINES_NAME)
