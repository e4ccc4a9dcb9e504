"""What lies in the database's volume, and the password it was made with: told before anything is touched."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from tests.e2e.steps import explained, healthy, runs
from tests.support.sandbox import NEXT_POSTGRES, TIME_LIMIT, Sandbox, base_images, client, execute, sandbox
from tests.support.waiting import eventually

SENTINELS = "CREATE TABLE sentinels (id int PRIMARY KEY); INSERT INTO sentinels SELECT generate_series(1, 100)"
#: On a container of ours that no compose project has made.
LABEL = "stockhelper.test"
COUNT = "SELECT count(*) FROM sentinels"


@pytest.fixture(scope="module")
def shared(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox(tmp_path_factory.mktemp("volume")) as made:
        made.up()
        made.psql(SENTINELS)
        yield made


@pytest.fixture
def held(shared: Sandbox) -> Iterator[Sandbox]:
    """A stack that is up, with 100 sentinels; they are there afterwards, whatever a test did."""
    env = (shared.root / ".env").read_bytes()
    shared.up()
    yield shared
    (shared.root / ".env").write_bytes(env)
    shared.run("db", "set-password")  # where the database runs; where it does not, its password is as it was
    shared.up()
    assert shared.psql(COUNT) == "100"


@pytest.fixture
def fresh(swept: None, tmp_path: Path) -> Iterator[Sandbox]:
    """A project that was never up."""
    with sandbox(tmp_path) as made:
        yield made


def ids(project: Sandbox) -> dict[str, Any]:
    return runs(project, "db", "app")


def volume_of(project: Sandbox) -> str:
    return f"{project.name}_postgres_data"


def in_volume(project: Sandbox, script: str, *options: str) -> None:
    """Run a script as postgres in a container of the database's image that has the volume mounted."""
    mount = f"{volume_of(project)}:/var/lib/postgresql/data"
    image = base_images()["POSTGRES_IMAGE"]
    command = ["docker", "run", *options, "-u", "postgres", "-v", mount, "--entrypoint", "bash", image, "-c", script]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


# --- the password
@pytest.mark.parametrize("command", [("up",), ("migrate",)])
def test_drift_is_noticed_before_anything_is_recreated(held: Sandbox, command: tuple[str, ...]) -> None:
    before = ids(held)
    held.set("POSTGRES_PASSWORD", "another one")
    explained(held.run(*command), 3, "refuses the password of stockhelper", "next: stockhelper db set-password")
    assert ids(held) == before
    assert healthy(held)


def test_drift_is_mended_in_place(held: Sandbox) -> None:
    held.set("POSTGRES_PASSWORD", "it's a $new one @:/?#%\"\\")
    result = held.run("db", "set-password", "--json").json["result"]
    assert (result["updated_env"], "db" in result["restarted"]) == (False, True)
    assert not held.up().plan
    assert (held.psql(COUNT), healthy(held)) == ("100", True)


@pytest.mark.parametrize("way", ["--stdin", "--generate"])
def test_a_new_password_goes_to_the_database_env_and_what_runs(held: Sandbox, way: str) -> None:
    before = load_dotenv(held.root / ".env")["POSTGRES_PASSWORD"]
    result = held.run("db", "set-password", way, "--json", stdin="new one\n")
    assert result.json["result"]["updated_env"], result.err
    after = load_dotenv(held.root / ".env")["POSTGRES_PASSWORD"]
    assert after != before
    assert after == "new one" or way == "--generate"
    assert after not in result.out + result.err
    assert not held.up().plan
    assert held.run("migrate", "current").code == 0
    assert (held.root / ".env").stat().st_mode & 0o777 == 0o600


def test_a_password_that_the_shell_sets_is_not_written_to_env(held: Sandbox) -> None:
    before = (held.root / ".env").read_bytes()
    own = load_dotenv(held.root / ".env")["POSTGRES_PASSWORD"]
    result = held.run("db", "set-password", "--generate", environment={"POSTGRES_PASSWORD": own + "x"})
    explained(result, 2, "POSTGRES_PASSWORD is not .env's to decide")
    assert (held.root / ".env").read_bytes() == before


def test_the_applications_password_is_repaired_by_migrating(held: Sandbox) -> None:
    held.set("APP_DB_PASSWORD", "another one")
    held.up()
    assert healthy(held)
    held.psql("ALTER ROLE stockhelper_app PASSWORD 'wrong'")
    assert held.run("migrate").code == 0
    assert held.run("restart", "app").code == 0
    assert healthy(held)


# --- another major
@pytest.mark.parametrize("state", ["running", "stopped", "down"])
def test_the_volume_of_another_major_is_refused_and_not_touched(held: Sandbox, state: str) -> None:
    if state != "running":
        assert held.run("down" if state == "down" else "stop").code == 0
    before = None if state == "down" else held.container("db")["Id"]
    held.set("POSTGRES_IMAGE", NEXT_POSTGRES)
    explained(held.run("up"), 3, "is of PostgreSQL 15, and the image is PostgreSQL 17", "the volume was not touched")
    if before:
        assert held.container("db")["Id"] == before
    assert (healthy(held)) == (state == "running")
    names = {container.name for container in client().containers.list(all=True, filters={"volume": volume_of(held)})}
    assert names == (set() if state == "down" else {f"{held.name}-db-1"})


# --- two servers
def test_a_second_server_on_the_volume_is_refused(held: Sandbox) -> None:
    assert held.run("down").code == 0
    name = f"{held.name}-other"
    in_volume(held, "exec sleep 600", "--detach", "--label", f"{LABEL}={held.name}", "--name", name)
    try:
        explained(held.run("up"), 3, f"is in use by the container {name}", f"docker stop {name}")
    finally:
        client().containers.get(name).remove(force=True)


# --- an interrupted first start
def test_first_start_killed_before_the_server_is_repeated(fresh: Sandbox) -> None:
    """A first start that is killed before any server ran is repeated from the beginning."""
    client().volumes.create(volume_of(fresh), labels={"com.docker.compose.project": fresh.name})
    in_volume(fresh, "initdb -U stockhelper -D /var/lib/postgresql/data", "--rm")
    result = fresh.up()
    assert any("it holds no table, and is made anew" in warning for warning in result.json["warnings"])
    assert healthy(fresh)


def test_missing_database_is_created_only_without_tables(fresh: Sandbox) -> None:
    """A database that does not exist is created only while the volume holds no table."""
    fresh.up("db")
    drop = ["psql", "-U", "stockhelper", "-d", "postgres", "-c", "DROP DATABASE stockhelper WITH (FORCE)"]
    table = [*drop[:-1], "CREATE TABLE mine (id int)"]
    container = client().containers.get(f"{fresh.name}-db-1")
    for command in (drop, table):
        assert execute(container, *command)[0] == 0
    explained(fresh.run("up"), 3, "the database stockhelper does not exist in the volume")
    assert execute(container, *drop[:-1], "DROP TABLE mine")[0] == 0
    result = fresh.up()
    assert any("it holds no table, and is made anew" in warning for warning in result.json["warnings"])
    assert healthy(fresh)


def test_a_first_start_killed_at_any_moment_ends_healthy(fresh: Sandbox) -> None:
    for delay in (0.2, 0.5, 0.8):
        process = fresh.start("up", "db")
        database = eventually(lambda: _started(fresh))
        threading.Event().wait(delay)  # into its first boot, as deep as it comes
        database.kill()
        process.communicate(timeout=TIME_LIMIT)
        fresh.up()
        assert healthy(fresh)
        assert fresh.run("down", "--volumes", "--yes", "--no-backup").code == 0


def _started(project: Sandbox) -> Any:
    found = client().containers.list(filters={"name": f"{project.name}-db-1"})
    return found[0] if found else None


# --- a crash
def test_every_acknowledged_row_survives_a_kill_of_the_database(held: Sandbox) -> None:
    held.psql("CREATE TABLE acknowledged (id int PRIMARY KEY)")
    inserts = 'for i in $(seq 100000); do echo "INSERT INTO acknowledged VALUES ($i) RETURNING id;"; done'
    writing = ["docker", "exec", f"{held.name}-db-1", "sh", "-c", f"{inserts} | psql -XAtqU stockhelper stockhelper"]
    with subprocess.Popen(writing, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        heard = [process.stdout.readline() for _ in range(500)]
        client().containers.get(f"{held.name}-db-1").kill()
        heard += process.stdout.readlines()
    held.up()
    last = max(int(line) for line in heard if line.strip().isdigit())
    assert last >= 500
    assert held.psql(f"SELECT count(*) FROM acknowledged WHERE id <= {last}") == str(last)
    held.psql("DROP TABLE acknowledged")
