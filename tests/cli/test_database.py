"""What is refused of a database before anything is changed: its password, its volume, its migrations."""

from __future__ import annotations

import json

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from tests.cli.conftest import World
from tests.support.refusals import explained
from tests.support.revisions import HEAD


def test_password_set_by_the_shell_is_not_written_to_env(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the shell sets POSTGRES_PASSWORD, `db set-password` changes neither .env nor the database."""
    assert world.run("up", "-q").code == 0
    before, calls = (world.root / ".env").read_bytes(), list(world.engine.calls)
    monkeypatch.setenv("POSTGRES_PASSWORD", "canary-secretx")
    explained(world.run("db", "set-password", "--generate"), 2, "POSTGRES_PASSWORD is not .env's to decide")
    assert ((world.root / ".env").read_bytes(), world.engine.calls) == (before, calls)


def test_generated_password_is_written_to_env_and_not_shown(world: World) -> None:
    """`db set-password --generate` writes the new password to .env, restarts what uses it, and prints it nowhere."""
    assert world.run("up", "-q").code == 0
    env = world.root / ".env"
    before, mode = load_dotenv(env)["POSTGRES_PASSWORD"], env.stat().st_mode
    answer = world.run("db", "set-password", "--generate", "--json")
    result = json.loads(answer.out)["result"]
    assert (answer.code, result["updated_env"], "db" in result["restarted"]) == (0, True, True)
    after = load_dotenv(env)["POSTGRES_PASSWORD"]
    assert after != before
    assert after not in answer.out + answer.err
    assert env.stat().st_mode == mode


def test_second_server_on_the_volume_is_refused(world: World) -> None:
    """`up` refuses to start the database while another container uses its volume."""
    assert world.run("up", "-q").code == 0
    assert world.run("down", "-q").code == 0
    mount = {"Type": "volume", "Source": "stockhelper_postgres_data", "Target": "/var/lib/postgresql/data"}
    other = {"Image": "postgres:15-alpine", "HostConfig": {"Mounts": [mount]}}
    world.engine.start(world.engine.create_container("other", other))
    explained(world.run("up"), 3, "is in use by the container other", "docker stop other")
    assert [container.name for container in world.engine.containers([])] == ["other"]


@pytest.mark.parametrize("command", ["up", "migrate"])
def test_two_heads_are_refused_and_nothing_is_applied(world: World, command: str) -> None:
    """Two migrations that follow the same one are refused before an image is built."""
    assert world.run("up", "-q").code == 0
    calls = list(world.engine.calls)
    for revision in ("left", "right"):
        file = world.root / "migrations" / "versions" / f"9999_{revision}.py"
        file.write_text(f'revision = "{revision}"\ndown_revision = "{HEAD}"\n')
    explained(world.run(command), 6, "2 heads: left, right")
    assert world.engine.calls == calls


def test_going_back_asks_for_the_name_of_the_project(world: World) -> None:
    """Without a terminal, `migrate downgrade` needs `--yes`."""
    assert world.run("up", "-q").code == 0
    calls = list(world.engine.calls)
    explained(world.run("migrate", "downgrade", "-1"), 9, "stockhelper will be taken back to -1", "--yes")
    assert world.engine.calls == calls
