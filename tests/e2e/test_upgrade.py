"""From one PostgreSQL major to the next on real servers, and what goes wrong on the way, done for real."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyrage
import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.labels import UPGRADE
from tests.e2e.backups import COUNT, NEWEST, SENTINELS
from tests.e2e.disk import small_disk
from tests.e2e.steps import healthy, runs
from tests.e2e.tunnel import CHANGE, COMMAND, RESTORE, tunnel
from tests.support.refusals import explained
from tests.support.sandbox import NEXT_POSTGRES, TIME_LIMIT, Sandbox, base_images, client, execute, sandbox
from tests.support.waiting import eventually

#: What is in a server beside the stack's own database.
OTHERS = (
    "CREATE ROLE reader LOGIN PASSWORD 'of reader' IN ROLE pg_read_all_data",
    "CREATE DATABASE other OWNER reader",
    "ALTER DATABASE stockhelper SET work_mem = '5MB'",
)


@pytest.fixture(scope="module")
def shared(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox(tmp_path_factory.mktemp("upgrade")) as made:
        made.up()
        for statement in (*SENTINELS.split("; "), *OTHERS):
            made.psql(statement)
        yield made


@pytest.fixture
def old(shared: Sandbox) -> Iterator[Sandbox]:
    """The stack on its old major, with .env naming the next; it is whole on the old one again afterwards."""
    shared.set("POSTGRES_IMAGE", NEXT_POSTGRES)
    yield shared
    put_back(shared)
    assert (shared.psql(COUNT), healthy(shared)) == ("2000", True)


def put_back(project: Sandbox) -> None:
    project.set("POSTGRES_IMAGE", base_images()["POSTGRES_IMAGE"])
    project.set("POSTGRES_VOLUME", f"{project.name}_postgres_data")
    project.up()


def upgraded(project: Sandbox) -> dict[str, Any]:
    result = project.run("db", "upgrade", "--json")
    assert result.code == 0, result.out + result.err
    answer: dict[str, Any] = result.json["result"]
    return answer


def volumes(project: Sandbox) -> set[str]:
    found = client().volumes.list(filters={"label": f"com.docker.compose.project={project.name}"})
    return {volume.name.removeprefix(f"{project.name}_") for volume in found}


def major(project: Sandbox) -> str:
    return project.psql("SHOW server_version").partition(".")[0]


def named(project: Sandbox) -> str:
    """Return the volume that .env names."""
    return load_dotenv(project.root / ".env")["POSTGRES_VOLUME"].removeprefix(f"{project.name}_")


@pytest.mark.slow
def test_what_cannot_be_restored_leaves_the_old_stack_as_it_was(old: Sandbox) -> None:
    """A view on what the next major has no more: its server refuses the dump."""
    old.psql("CREATE VIEW writes AS SELECT buffers_backend FROM pg_stat_bgwriter")
    before = {service: container for service, (container, _) in runs(old, "db", "app").items()}
    try:
        result = old.run("db", "upgrade")
        explained(result, 7, "the data could not be taken over", "buffers_backend")
        assert {service: container for service, (container, _) in runs(old, "db", "app").items()} == before
        assert (healthy(old), major(old), volumes(old)) == (True, "15", {"postgres_data"})
    finally:
        old.psql("DROP VIEW writes")


def test_an_image_that_cannot_start_stops_nothing(old: Sandbox) -> None:
    before = runs(old, "db", "app")
    explained(old.run("db", "upgrade", environment={"DB_PIDS": "3"}), 5, "db exited before it was ready")
    explained(old.run("db", "upgrade", "--from", NEXT_POSTGRES), 4, "is no image of PostgreSQL 15")
    explained(old.run("db", "upgrade", environment={"POSTGRES_VOLUME": f"{old.name}_postgres_data"}), 2)
    assert (runs(old, "db", "app"), volumes(old)) == (before, {"postgres_data"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "number"),
    [(CHANGE, 3), (CHANGE, 7), (RESTORE, 1)],
    ids=["starting the new server", "starting the old one", "restoring"],
)
def test_killed_before_the_switch_the_old_image_serves_every_row(old: Sandbox, kind: Any, number: int) -> None:
    with tunnel(kind) as remote:
        process = old.start("db", "upgrade", environment=remote.environment)
        remote.on_request(number, process.kill)
        _, err = process.communicate(timeout=TIME_LIMIT)
    assert process.returncode == -signal.SIGKILL, err
    assert named(old) == "postgres_data"
    # No server of ours outlives the run: nobody could be told of it.
    ours: dict[str, str | list[str] | bool] = {"label": [UPGRADE, f"com.docker.compose.project={old.name}"]}
    eventually(lambda: not client().containers.list(filters=ours, ignore_removed=True), TIME_LIMIT)
    old.up(environment={"POSTGRES_IMAGE": base_images()["POSTGRES_IMAGE"]})
    assert (major(old), old.psql(COUNT), healthy(old)) == ("15", "2000", True)


@pytest.mark.slow
def test_interrupted_it_starts_the_old_stack_again(old: Sandbox) -> None:
    with tunnel(COMMAND) as remote:
        process = old.start("db", "upgrade", environment=remote.environment)
        remote.on_request(20, lambda: process.send_signal(signal.SIGINT))
        _, err = process.communicate(timeout=TIME_LIMIT)
    assert process.returncode == 130, err
    assert (healthy(old), major(old), named(old), volumes(old)) == (True, "15", "postgres_data", {"postgres_data"})


@pytest.mark.long("the one upgrade in `make test`: there and back, under writes")
def test_upgrade_keeps_every_row_and_can_be_rolled_back(old: Sandbox) -> None:
    """An upgrade keeps every acknowledged row, and the previous volume can be used again."""
    explained(old.run("up"), 3, "is of PostgreSQL 15, and the image is PostgreSQL 17", "next: stockhelper db upgrade")
    old.psql("CREATE TABLE acknowledged (id int PRIMARY KEY)")
    insert = "INSERT INTO acknowledged VALUES ($i) RETURNING id; SELECT pg_sleep(0.01);"
    inserts = f'for i in $(seq 1000000); do echo "{insert}"; done'
    writing = ["docker", "exec", f"{old.name}-db-1", "sh", "-c", f"{inserts} | psql -XAtqU stockhelper stockhelper"]
    with subprocess.Popen(writing, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        heard = [process.stdout.readline()]
        answer = upgraded(old)
        heard += process.stdout.readlines()
    last = max(int(line) for line in heard if line.strip().isdigit())
    assert old.psql(f"SELECT count(*) FROM acknowledged WHERE id <= {last}") == str(last)
    assert old.psql(NEWEST).startswith("stockhelper.backed_up=")
    assert (major(old), old.psql(COUNT), healthy(old)) == ("17", "2000", True)
    assert old.psql(COUNT, user="stockhelper_app") == "2000"
    assert old.psql("SHOW work_mem") == "5MB"
    assert (
        old.psql("SELECT rolname FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE datname = 'other'")
        == "reader"
    )
    login = 'PGPASSWORD="of reader" psql -h "$(hostname)" -U reader -d other -XAtqc "SELECT 1"'
    assert execute(client().containers.get(f"{old.name}-db-1"), "sh", "-c", login) == (0, "1\n")
    assert (named(old), volumes(old)) == ("postgres_17", {"postgres_data", "postgres_17"})
    verified = old.run("backup", "list", "--json").json["result"]["backups"][0]
    assert (verified["file"], bool(verified["verified"])) == (answer["backup"], True)
    assert not old.up().plan
    assert "Recreate" not in old.compose("--dry-run", "up", "-d", "db").stderr
    assert not upgraded(old)["changed"]

    old.set("POSTGRES_IMAGE", answer["before"]["image"])
    explained(old.run("db", "upgrade"), 3, "a database can be moved to a newer major only")
    explained(old.run("up"), 3, "set POSTGRES_VOLUME to the former volume")
    old.set("POSTGRES_VOLUME", answer["before"]["volume"])
    old.up()
    assert (major(old), old.psql(COUNT), healthy(old)) == ("15", "2000", True)


@pytest.mark.slow
def test_upgrade_killed_after_the_switch_is_finished_by_rerun(old: Sandbox) -> None:
    """The volume of the first upgrade is kept: rows may have been written to it since.

    That nobody here could open the backup any more is nothing to an upgrade: what goes over is opened by its own key.
    """
    there = volumes(old)
    assert old.run("down").code == 0
    key = pyrage.x25519.Identity.generate().to_public()
    process = old.start("db", "upgrade", environment={"BACKUP_RECIPIENTS": str(key)})
    eventually(lambda: named(old) not in there, TIME_LIMIT)
    process.kill()
    process.communicate()
    made = old.run("backup", "list", "--json").json["result"]["backups"][0]
    assert (made["recipients"], bool(made["verified"])) == ([str(key)], True)
    assert not upgraded(old)["changed"]
    assert (major(old), old.psql(COUNT), healthy(old)) == ("17", "2000", True)
    assert (volumes(old), "postgres_data" in there) == ({*there, named(old)}, True)


# --- no room for a second copy
@pytest.mark.slow
def test_upgrade_on_a_full_disk_keeps_the_old_stack(swept: None, tmp_path: Path) -> None:
    """On a full disk the old stack keeps running, or the failed upgrade leaves it usable."""
    with small_disk(tmp_path, 320) as place, sandbox(tmp_path) as small:
        for name in ("first", f"{small.name}_postgres_17"):
            (place / name).mkdir(mode=0o777)
            (place / name).chmod(0o777)
        device = f"{place}/${{POSTGRES_VOLUME:-first}}"
        (small.root / "small.yaml").write_text(
            f"volumes: {{postgres_data: {{driver_opts: {{type: none, o: bind, device: '{device}'}}}}}}\n"
        )
        small.set("COMPOSE_FILE", "compose/compose.yaml:small.yaml")
        small.up()
        for statement in SENTINELS.split("; "):
            small.psql(statement)
        small.set("POSTGRES_IMAGE", NEXT_POSTGRES)
        before = runs(small, "db", "app")
        ballast = place / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(place).free - (100 << 20)))
        explained(small.run("db", "upgrade"), 4, "there is no room for the upgraded database", "MB are free")
        assert runs(small, "db", "app") == before
        ballast.unlink()

        # Past the check, as when somebody else fills the disk meanwhile: the new server itself refuses.
        def fill() -> None:
            with suppress(OSError), ballast.open("wb") as file:  # until there is no more room
                while True:
                    file.write(bytes(1 << 20))

        with tunnel(RESTORE) as remote:
            process = small.start("db", "upgrade", environment=remote.environment)
            remote.on_request(1, fill)
            _, err = process.communicate(timeout=TIME_LIMIT)
        ballast.unlink()
        assert process.returncode == 7, err
        assert "No space left on device" in err
        small.up(environment={"POSTGRES_IMAGE": base_images()["POSTGRES_IMAGE"]})
        assert (major(small), small.psql(COUNT), healthy(small)) == ("15", "2000", True)
