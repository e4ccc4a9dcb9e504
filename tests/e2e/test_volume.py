"""What lies in the database's volume, and the password it was made with: told before anything is touched."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from tests.e2e.steps import healthy, runs
from tests.support.refusals import explained
from tests.support.sandbox import NEXT_POSTGRES, TIME_LIMIT, Sandbox, base_images, client, execute, sandbox
from tests.support.waiting import eventually

SENTINELS = "CREATE TABLE sentinels (id int PRIMARY KEY); INSERT INTO sentinels SELECT generate_series(1, 100)"
COUNT = "SELECT count(*) FROM sentinels"


@pytest.fixture(scope="module")
def shared(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox(tmp_path_factory.mktemp("volume")) as made:
        made.up()
        made.psql(SENTINELS)
        yield made


@pytest.fixture
def held(shared: Sandbox) -> Iterator[Sandbox]:
    """A stack that is up, with 100 sentinels; they are there afterwards, and it is up as .env says by then."""
    yield shared
    shared.set("POSTGRES_IMAGE", base_images()["POSTGRES_IMAGE"])
    if shared.run("up", "--json").code:  # a test that failed has left .env with another password
        assert shared.run("db", "set-password").code == 0
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
def test_drift_is_noticed_early_and_mended_in_place(held: Sandbox) -> None:
    """A password that the database does not have is refused before anything is recreated; `set-password` mends it."""
    before = ids(held)
    held.set("POSTGRES_PASSWORD", "it's a $new one @:/?#%\"\\")
    held.set("APP_DB_PASSWORD", "the app's new one")
    for command in ("up", "migrate"):
        explained(held.run(command), 3, "refuses the password of stockhelper", "next: stockhelper db set-password")
    assert ids(held) == before
    assert healthy(held)
    result = held.run("db", "set-password", "--json").json["result"]
    assert (result["updated_env"], "db" in result["restarted"]) == (False, True)
    assert not held.up().plan
    assert (held.psql(COUNT), healthy(held)) == ("100", True)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_applications_password_is_repaired_by_migrating(held: Sandbox) -> None:
    held.set("APP_DB_PASSWORD", "another one")
    held.up()
    assert healthy(held)
    held.psql("ALTER ROLE stockhelper_app PASSWORD 'wrong'")
    assert held.run("migrate").code == 0
    assert held.run("restart", "app").code == 0
    assert healthy(held)


# --- another major
def test_volume_of_another_major_is_refused_and_untouched(held: Sandbox) -> None:
    """An image of another major is refused while the stack runs, is stopped, and when only the volume is there."""
    image = load_dotenv(held.root / ".env")["POSTGRES_IMAGE"]
    for state in ("running", "stopped", "down"):
        if state != "running":
            assert held.run("down" if state == "down" else "stop").code == 0
        before = None if state == "down" else held.container("db")["Id"]
        held.set("POSTGRES_IMAGE", NEXT_POSTGRES)
        result = held.run("up")
        explained(result, 3, "is of PostgreSQL 15, and the image is PostgreSQL 17", "the volume was not touched")
        if before:
            assert held.container("db")["Id"] == before
        assert healthy(held) == (state == "running")
        users = client().containers.list(all=True, filters={"volume": volume_of(held)})
        assert {container.name for container in users} == (set() if state == "down" else {f"{held.name}-db-1"})
        held.set("POSTGRES_IMAGE", image)


# --- an interrupted first start
@pytest.mark.slow
def test_first_start_killed_before_the_server_is_repeated(fresh: Sandbox) -> None:
    """A first start that is killed before any server ran is repeated from the beginning."""
    client().volumes.create(volume_of(fresh), labels={"com.docker.compose.project": fresh.name})
    in_volume(fresh, "initdb -U stockhelper -D /var/lib/postgresql/data", "--rm")
    result = fresh.up()
    assert any("it holds no table, and is made anew" in warning for warning in result.json["warnings"])
    assert healthy(fresh)


@pytest.mark.long("two first starts of a stack of its own")
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


@pytest.mark.parametrize(
    "log",
    [
        pytest.param("creating configuration files", marks=pytest.mark.slow, id="before the cluster is whole"),
        pytest.param("syncing data to disk", id="when the cluster is whole"),
        pytest.param("database system is shut down", marks=pytest.mark.slow, id="when the database is there"),
    ],
)
@pytest.mark.long("the one moment of the sweep: a first start, killed, and another one")
def test_first_start_killed_at_any_moment_ends_healthy(fresh: Sandbox, log: str) -> None:
    """The database is killed in its first boot, as deep as its log says or deeper; `up` ends healthy all the same."""
    process = fresh.start("up", "db")
    database = eventually(lambda: _started(fresh))
    eventually(lambda: log in database.logs().decode())
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
