"""Migrations of a database that holds rows: prepared, told where they fail, and never a row lost."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from tests.e2e.diagnosis import diagnose
from tests.e2e.disk import keep_data_on, small_disk
from tests.e2e.release import Release, own_release
from tests.e2e.steps import healthy, runs, session
from tests.support.refusals import explained
from tests.support.sandbox import TIME_LIMIT, Sandbox, client, interrupt
from tests.support.template import Template
from tests.support.waiting import PATIENCE, eventually

ROWS = (
    "INSERT INTO stocks (symbol, name, exchange) SELECT g || '.SH', 'Stock ' || g, 'SH' FROM generate_series(600000,"
    " 600499) g"
)
#: Number of rows, and a sum over what is in them.
SENTINELS = "SELECT count(*), sum(hashtextextended(symbol || name || exchange || created_at, 0)) FROM stocks"
#: What the database notes of how it came to where it is: the revisions, oldest first.
LINE = "SELECT obj_description('alembic_version'::regclass)"


@pytest.fixture(scope="module")
def kept(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A stack with sources of its own, up, its database full of rows."""
    with own_release(tmp_path_factory.mktemp("kept")) as made:
        template.copy_into(made.project)
        made.project.up()
        made.project.psql(ROWS)
        yield made


@pytest.fixture
def stage(kept: Release) -> Iterator[Release]:
    """The same; what a test does to the schema, the sources and the image is undone after it, and no row is lost.

    By plain SQL and a name for the image that was there; the app is replaced only after a test that had replaced it.
    """
    if kept.project.container("app")["Image"] != kept.image_id():
        kept.project.up()
    head, image, rows, line = kept.head, kept.image_id(), kept.project.psql(SENTINELS), kept.project.psql(LINE)
    yield kept
    undone = "ALTER TABLE stocks DROP COLUMN IF EXISTS note; DROP TABLE IF EXISTS one, two, three, fill"
    kept.project.psql(f"{undone}; DROP INDEX IF EXISTS ix_name, ix_twice; {at(head, line)}")
    kept.restore()
    kept.use_image(image)
    assert kept.project.psql(SENTINELS) == rows


def at(revision: str, line: str) -> str:
    """Return the SQL that has the database be at a revision to which it came by these."""
    noted = f"COMMENT ON TABLE alembic_version IS '{line}'"
    return f"DELETE FROM alembic_version; INSERT INTO alembic_version VALUES ('{revision}'); {noted}"


def add_note(release: Release) -> Path:
    """Add a migration that adds a column: the same one for most tests, so that its image is built once."""
    column = 'op.execute("alter table stocks add column note text")'
    return release.add_migration(column, back='op.drop_column("stocks", "note")')


def put_ahead(release: Release) -> None:
    """Have the database be where `add_note` leads to, as if that had been applied."""
    project = release.project
    project.psql(f"ALTER TABLE stocks ADD COLUMN note text; {at('test', project.psql(LINE) + ' test')}")


def position(project: Sandbox) -> str:
    return project.psql("SELECT version_num FROM alembic_version")


def columns(project: Sandbox) -> set[str]:
    sql = "SELECT column_name FROM information_schema.columns WHERE table_name = 'stocks'"
    return set(project.psql(sql).splitlines())


def backups(project: Sandbox) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = project.run("backup", "list", "--json").json["result"]["backups"]
    return listed


@pytest.mark.slow
def test_interrupted_or_killed_migration_is_never_partial(stage: Release) -> None:
    """An interrupted or killed migration is applied completely or not at all."""
    project, head = stage.project, stage.head
    # It asks for the lock again and again: to wait for it would end by the migrations' own limit.
    stage.add_migration(
        'op.execute("create table one as select 1 as id")\nop.execute("do $$begin loop exit when '
        'pg_try_advisory_xact_lock_shared(1); perform pg_sleep(0.05); end loop; end$$")'
    )
    held = "DO $$BEGIN PERFORM pg_advisory_lock(1); END$$"
    asking = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'do %lock_shared(1)%' AND state = 'active'"
    with session(project, held):
        process = project.start("migrate", "--no-backup")
        eventually(lambda: project.psql(asking) == "1")
        explained(interrupt(process, signal.SIGINT), 130, "interrupted")
        assert one_offs(project) == []
    assert position(project) == head

    with session(project, held):
        process = project.start("migrate", "--no-backup")
        eventually(lambda: project.psql(asking) == "1")
        process.kill()
        process.communicate()
        # Its container works on; the next one waits for it, and finds nothing left to do.
        process = project.start("migrate", "--no-backup")
        eventually(lambda: any(b"waiting for it" in container.logs() for container in one_offs(project)))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert (position(project), project.psql("SELECT count(*) FROM one")) == ("test", "1")
    # Nobody removed the container of the killed one.
    (left,) = one_offs(project)
    assert left.status == "exited"
    told = [f"{left.name} (exited) is left of a command that was killed; the next up removes it"]
    assert diagnose(project, "--only", "stack.leftovers").findings["stack.leftovers"]["evidence"] == told
    project.up()
    assert one_offs(project) == []


def one_offs(project: Sandbox) -> list[Container]:
    """Return the containers in which migrations are applied, besides that of the service."""
    filters: dict[str, str | list[str] | bool] = {"name": f"{project.name}-migrate-run"}
    return client().containers.list(all=True, filters=filters, ignore_removed=True)


def test_up_with_image_older_than_sources_suggests_build(stage: Release) -> None:
    """`up` reports an outdated image separately from outdated code, and suggests `build`."""
    project = stage.project
    add_note(stage)
    put_ahead(stage)
    explained(project.run("up", "--no-build"), 6, "ahead of the image: it is at test", "stockhelper build")
    assert project.run("migrate").code == 0  # builds it
    assert project.run("migrate", "current").out.strip() == "test (head)"


@pytest.mark.long("migrates, fails, and restores: the one way back that is typed as printed")
def test_third_migration_fails_and_printed_restore_works(stage: Release) -> None:
    """If the third of three migrations fails, the first two stay, and the printed `restore` undoes them."""
    project, head = stage.project, stage.head
    served = runs(project, "app")
    stage.add_migration('op.execute("create table one (id int)")', "first")
    stage.add_migration('op.execute("create table two (id int)")', "second", after="first")
    stage.add_migration('op.execute("create table three (id int)")\nop.execute("select 1/0")', "third", after="second")

    result = project.run("migrate")

    explained(result, 6, "division by zero", "the database is at second, nothing was downgraded", "running: app, db")
    assert project.psql("SELECT to_regclass('one') IS NOT NULL, to_regclass('three') IS NULL") == "t|t"
    assert (runs(project, "app"), healthy(project)) == (served, True)
    (restore,) = re.findall(r"next: stockhelper (restore .*)", result.err)
    assert project.run(*shlex.split(restore), "--yes", "--no-backup").code == 0
    assert (position(project), project.psql("SELECT to_regclass('one') IS NULL")) == (head, "t")
    assert eventually(lambda: healthy(project))


@pytest.mark.slow
def test_an_index_that_was_left_invalid_is_named(stage: Release) -> None:
    stage.add_migration(
        "with op.get_context().autocommit_block():\n"
        '    op.create_index("ix_twice", "stocks", ["exchange"], unique=True, postgresql_concurrently=True)'
    )
    result = stage.project.run("up")
    explained(result, 6, "could not create unique index", "public.ix_twice is INVALID", "next: stockhelper restore ")


@pytest.mark.slow
def test_eight_containers_at_once_apply_a_migration_once(stage: Release) -> None:
    """Eight containers migrate at once with a concurrent index: one applies it, and all exit with 0."""
    project = stage.project
    stage.add_migration(
        "with op.get_context().autocommit_block():\n"
        '    op.create_index("ix_name", "stocks", ["name"], postgresql_concurrently=True)'
    )
    assert project.run("build").code == 0

    def migrate(_: int) -> subprocess.CompletedProcess[str]:
        return project.compose("run", "--rm", "-T", "--no-deps", "migrate", check=False)

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(migrate, range(8)))

    assert [each.returncode for each in done] == [0] * 8, [each.stdout + each.stderr for each in done]
    assert sum("Running upgrade" in each.stdout for each in done) == 1
    assert project.psql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_name'::regclass") == "t"
    assert position(project) == "test"


def test_locked_table_delays_the_migration_and_app_answers(stage: Release) -> None:
    """A migration waits for a table that another session has locked, and ends at Ctrl-C; the app still answers."""
    project, head, before = stage.project, stage.head, backups(stage.project)
    add_note(stage)
    assert project.run("build").code == 0
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'alter table stocks%'"
    with session(project, "BEGIN; LOCK TABLE stocks IN ACCESS SHARE MODE") as holder:
        interrupted = project.start("migrate", "--no-backup")
        eventually(lambda: project.psql(waiting))
        explained(interrupt(interrupted, signal.SIGINT), 130, "interrupted")
        assert (one_offs(project), position(project)) == ([], head)
        under_way = project.start("migrate", "--no-backup")
        eventually(lambda: project.psql(waiting))
        assert healthy(project)
        assert holder.poll() is None
    out, err = under_way.communicate(timeout=TIME_LIMIT)
    assert under_way.returncode == 0, out + err
    assert (position(project), backups(project)) == ("test", before)


def test_going_back_makes_a_backup_first(stage: Release) -> None:
    """`migrate downgrade` makes a verified backup, and goes back; tests/cli has its question."""
    project, head = stage.project, stage.head
    add_note(stage)
    put_ahead(stage)
    result = project.run("migrate", "downgrade", "-1", "--yes", "--json")
    assert result.code == 0, result.out + result.err
    assert (position(project), "note" in columns(project)) == (head, False)
    newest = backups(project)[0]
    assert (result.json["result"]["backup"], newest["revisions"]) == (newest["file"], ["test"])
    assert newest["verified"]


def test_sql_is_printed_and_not_run(stage: Release) -> None:
    before = backups(stage.project)
    add_note(stage)
    result = stage.project.run("migrate", "--sql")
    assert result.code == 0, result.err
    assert "alter table stocks add column note text" in result.out
    assert "CREATE TABLE stocks" not in result.out  # from where the database is
    assert ("note" in columns(stage.project), backups(stage.project)) == (False, before)


@pytest.mark.slow
def test_changed_model_is_reported_generated_and_applied(stage: Release) -> None:
    """`migrate check` reports a changed model, `migrate new` writes a migration, and `migrate` applies it."""
    project = stage.project
    stage.edit(
        stage.app / "models.py",
        "    listing_date: Mapped[",
        "    note: Mapped[str | None] = mapped_column(Text)\n    listing_date: Mapped[",
    )
    explained(project.run("migrate", "check"), 6, "the models and the database differ", "Detected added column")
    owner = 12345
    for path in (stage.versions, *stage.versions.iterdir()):
        os.chown(path, owner, owner)

    made = project.run("migrate", "new", "-m", "Add notes: what was thought", "--json")
    assert made.code == 0, made.out + made.err
    written = Path(made.json["result"]["file"])
    assert (written.parent, written.stat().st_uid) == (stage.versions, owner)
    assert made.json["result"]["changes"]
    assert "sa.Column('note', sa.Text(), nullable=True)" in written.read_text()

    applied = project.run("migrate", "--no-backup", "--json")
    assert applied.json["result"]["after"] == [made.json["result"]["revision"]]
    assert project.run("migrate", "check").code == 0


def test_database_ahead_of_code_or_unknown_is_reported(stage: Release) -> None:
    """A database ahead of the code and one at an unknown revision have different messages."""
    project, head = stage.project, stage.head
    put_ahead(stage)
    served = runs(project, "app")
    for command in ("up", "migrate"):
        explained(project.run(command), 6, f"ahead of the code: it is at test, and the code leads to {head}")
    project.psql("UPDATE alembic_version SET version_num = 'beef'; COMMENT ON TABLE alembic_version IS NULL")
    explained(project.run("migrate"), 6, "at revision beef, which this code does not have")
    assert (runs(project, "app"), healthy(project)) == (served, True)


@pytest.mark.parametrize(
    ("command", "again"),
    [
        pytest.param("up", "up --no-backup", id="up", marks=pytest.mark.slow),
        pytest.param("migrate", "migrate upgrade --no-backup", id="migrate"),
    ],
)
def test_failed_backup_blocks_the_migration(stage: Release, command: str, again: str) -> None:
    """If no backup can be made, nothing is applied without `--no-backup`, and with it no backup is made."""
    project, head, served, before = stage.project, stage.head, runs(stage.project, "app"), backups(stage.project)
    add_note(stage)
    nowhere = {"BACKUP_DIR": "/proc/nowhere"}
    explained(project.run(command, environment=nowhere), 7, "/proc/nowhere", f"stockhelper {again}")
    assert (position(project), runs(project, "app"), healthy(project)) == (head, served, True)
    result = project.run(*again.split(), "--json", environment=nowhere)
    assert result.code == 0, result.out + result.err
    assert (result.json["result"]["backup"], position(project)) == (None, "test")
    assert backups(project) == before


@pytest.mark.parametrize("command", ["up", pytest.param("migrate", marks=pytest.mark.slow)])
def test_pending_migration_is_applied_after_a_full_backup(stage: Release, command: str) -> None:
    """A pending migration is applied after a verified backup of every row."""
    project, before = stage.project, len(backups(stage.project))
    line = project.psql(LINE)
    add_note(stage)

    result = project.run(command, "--json")

    assert result.code == 0, result.out + result.err
    assert (position(project), "note" in columns(project)) == ("test", True)
    assert project.psql(LINE) == f"{line} test"
    made = result.json["result"]["backup"]
    newest, *others = backups(project)
    assert (newest["file"], newest["rows"], newest["verified"] is not None) == (made, 501, True)  # Alembic has one, too
    assert len(others) == before
    assert eventually(lambda: healthy(project))
    assert project.psql("SELECT count(*) FROM stocks", user="stockhelper_app") == "500"
    # At its head there is nothing to lose.
    again = project.run(command, "--json").json["result"]
    assert (again["changed"] and command == "migrate", again["backup"]) == (False, None)


@pytest.mark.slow
def test_without_room_nothing_is_begun(swept: None, tmp_path: Path) -> None:
    with small_disk(tmp_path, 150) as place, own_release(tmp_path / "release") as made:
        keep_data_on(made.project, place)
        made.project.up()
        made.project.psql(ROWS)
        add_note(made)
        used = place / "used"
        used.write_bytes(b"\0" * (80 << 20))
        before = position(made.project)
        explained(made.project.run("migrate"), 4, "there is no room to migrate", "MB are free", "docker system df")
        assert position(made.project) == before
        used.unlink()
        assert made.project.run("migrate", "--json").json["result"]["backup"]
        assert made.project.psql("SELECT count(*) FROM stocks") == "500"

        # One that needs more than there is takes nothing with it.
        fill = "create table one as select repeat(md5(g::text), 50) from generate_series(1, 500000) g"
        made.add_migration(f'op.execute("{fill}")', "fill")
        result = made.project.run("migrate", "--no-backup")
        explained(result, 6, "No space left on device", "the database is at test, nothing was downgraded")
        assert eventually(lambda: healthy(made.project))
        assert made.project.psql("SELECT to_regclass('one') IS NULL, count(*) FROM stocks") == "t|500"
