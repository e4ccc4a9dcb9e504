"""Migrations that meet each other, or somebody who holds a lock."""

from __future__ import annotations

import ast
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from stockhelper_app.migration import LOCK_KEY
from tests.support.alembic import CONFIG, Alembic
from tests.support.revisions import HEAD, NEXT, REVISIONS
from tests.support.waiting import PATIENCE, eventually

#: What somebody who is in the middle of something calls itself.
APPLICATION = "somebodys-tool"

#: How the database notes by which revisions it came to the newest one.
LINE = " ".join(REVISIONS)

HEADER = """
from alembic import op

revision = "{revision}"
down_revision = "{down_revision}"

def upgrade():
    {upgrade}

def downgrade():
    pass
"""


@pytest.fixture
def with_revisions(migrated: Alembic, tmp_path: Path) -> Callable[..., Alembic]:
    """Alembic on a migrated database and a copy of the migrations, with further revisions behind them."""

    def add(*upgrades: str) -> Alembic:
        folder = tmp_path / "migrations"
        shutil.copytree(CONFIG.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
        for number, upgrade in enumerate(upgrades, start=len(REVISIONS) + 1):
            text = HEADER.format(revision=f"{number:04}", down_revision=f"{number - 1:04}", upgrade=upgrade)
            (folder / f"versions/{number:04}_test.py").write_text(text)
        return replace(migrated, config=folder / CONFIG.name)

    return add


@contextmanager
def transaction(alembic: Alembic, statement: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Somebody in the middle of something."""
    with alembic.database.connect() as connection, connection.transaction():
        connection.execute("SELECT set_config('application_name', %s, false)", (APPLICATION,))
        connection.execute(statement.encode())
        yield connection


def test_of_eight_at_once_one_applies_and_all_succeed(alembic: Alembic) -> None:
    processes = [alembic.start("upgrade", "head") for _ in range(8)]
    outputs = [process.communicate(timeout=2 * PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outputs
    assert sum("Running upgrade" in out for out, _ in outputs) == 1
    assert all(out.endswith(f"the schema is at {HEAD}\n") for out, _ in outputs)
    assert [err for _, err in outputs] == [""] * 8
    assert alembic.application.query("SELECT count(*) FROM stocks") == [(0,)]


def test_waiting_migrations_do_not_block_concurrent_index(with_revisions: Callable[..., Alembic]) -> None:
    """Migrations that wait for the lock do not block the creation of a concurrent index."""
    alembic = with_revisions(
        """
    with op.get_context().autocommit_block():
        op.create_index("ix_test", "stocks", ["name"], postgresql_concurrently=True)
"""
    )
    processes = [alembic.start("upgrade", "head") for _ in range(3)]
    outputs = [process.communicate(timeout=2 * PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, outputs
    assert sum(f"Running upgrade {HEAD} -> {NEXT}" in out for out, _ in outputs) == 1
    assert alembic.database.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_test'::regclass") == [(True,)]


def test_waiting_for_another_migration_is_bounded_and_names_it(alembic: Alembic) -> None:
    with alembic.database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (LOCK_KEY,))
        started = time.monotonic()
        done = alembic("upgrade", "head", MIGRATION_LOCK_TIMEOUT="1")
        assert time.monotonic() - started >= 1
        assert done.returncode != 0
        pid = holder.info.backend_pid
        assert f"another migration is running (database process {pid}" in done.stdout
        assert "did not end in 1 s" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        # Nothing was changed, and looking is still possible.
        assert alembic.run("current") == ""


def test_the_lock_ends_with_a_killed_migration(with_revisions: Callable[..., Alembic]) -> None:
    alembic = with_revisions('op.execute("SELECT pg_sleep(60)")')
    killed = alembic.start("upgrade", "head")
    eventually(
        lambda: alembic.database.query(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(60)%%'"
            " AND state = 'active' AND pid <> pg_backend_pid()"
        )
    )
    killed.kill()
    killed.communicate()
    # The server finds out when it next speaks to the client; it is told here, as a stopping container tells it.
    alembic.database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stockhelper-migrate'"
    )
    alembic.run("upgrade", HEAD)
    assert alembic.run("current").strip() == HEAD


def test_a_table_lock_is_waited_for_in_short_turns(with_revisions: Callable[..., Alembic]) -> None:
    alembic = with_revisions('op.execute("ALTER TABLE stocks ADD test int")')
    with transaction(alembic, "LOCK TABLE stocks IN ACCESS SHARE MODE") as reader:
        process = alembic.start("upgrade", "head", MIGRATION_STATEMENT_LOCK_TIMEOUT="200", MIGRATION_RETRIES="50")
        assert process.stdout is not None
        # It gave up once already: whoever queued behind it could read meanwhile.
        eventually(lambda: "try 2 of 51" in (process.stdout.readline() if process.stdout else ""))
        assert alembic.application.query("SELECT count(*) FROM stocks") == [(0,)]
        reader.execute("SELECT 1")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out + err
    assert alembic.run("current").strip() == f"{NEXT} (head)"


def test_a_table_lock_that_is_never_given_up_ends_the_migration(with_revisions: Callable[..., Alembic]) -> None:
    alembic = with_revisions("pass", 'op.execute("ALTER TABLE stocks ADD test int")')
    with transaction(alembic, "LOCK TABLE stocks IN ACCESS SHARE MODE") as holder:
        # Long enough to see in that time who holds it.
        done = alembic("upgrade", "head", MIGRATION_STATEMENT_LOCK_TIMEOUT="1500", MIGRATION_RETRIES="1")
        pid = holder.info.backend_pid
    assert done.returncode != 0
    assert "FAILED: canceling statement due to lock timeout; the lock is held by " in done.stdout
    assert f"database process {pid}, application {APPLICATION}, " in done.stdout
    assert re.search(r"idle in transaction for \d:\d\d:\d\d: LOCK", done.stdout)
    assert ": LOCK TABLE stocks IN ACCESS SHARE MODE" in done.stdout
    # What was done before stays done: one transaction for each revision.
    assert alembic.run("current").strip() == NEXT


def test_a_migration_that_fails_leaves_nothing_of_itself(with_revisions: Callable[..., Alembic]) -> None:
    alembic = with_revisions('op.execute("CREATE TABLE half ()"); op.execute("SELECT 1/0 AS canary_statement")')
    done = alembic("upgrade", "head")
    assert done.returncode != 0
    assert f"Running upgrade {HEAD} -> {NEXT}" in done.stdout
    assert "FAILED: division by zero" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert alembic.run("current").strip() == HEAD
    assert alembic.database.query("SELECT to_regclass('half')") == [(None,)]
    # The statement and the traceback are there for those who ask.
    assert "canary_statement" in alembic("--raiseerr", "upgrade", "head").stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"POSTGRES_PASSWORD": "canary-wrong"}, "password authentication failed"),
        ({"POSTGRES_DB": "missing"}, 'database "missing" does not exist'),
        ({"POSTGRES_PORT": "1"}, "Connection refused"),
        ({"POSTGRES_PORT": "80a"}, "POSTGRES_PORT: "),
        ({"MIGRATION_LOCK_TIMEOUT": "nan"}, "MIGRATION_LOCK_TIMEOUT: "),
    ],
)
def test_what_makes_it_impossible_is_said_in_one_line(
    environment: dict[str, str], message: str, alembic: Alembic
) -> None:
    done = alembic.launch("upgrade", "head", **environment)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "canary" not in done.stdout + done.stderr


def test_database_records_its_applied_revisions(with_revisions: Callable[..., Alembic]) -> None:
    """The comment on the version table lists the revisions that led to the current one."""
    alembic = with_revisions("pass", 'op.execute("SELECT 1/0")')
    assert alembic("upgrade", "head").returncode != 0
    line = "SELECT obj_description('alembic_version'::regclass)"
    assert alembic.database.query(line) == [(f"{LINE} {NEXT}",)]
    alembic.run("downgrade", HEAD)
    assert alembic.database.query(line) == [(LINE,)]
    alembic.run("downgrade", "base")
    assert alembic.database.query(line) == [(None,)]
    assert f"COMMENT ON TABLE alembic_version IS '{LINE} {NEXT}'" in alembic.run("upgrade", NEXT, "--sql")


def test_each_difference_from_the_models_is_one_line(migrated: Alembic) -> None:
    """Each difference between the models and the database is reported on a line of its own."""
    assert migrated("check").returncode == 0
    migrated.database.query("ALTER TABLE stocks DROP COLUMN listing_date, ADD more int, ALTER name TYPE varchar(9)")
    done = migrated("check")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("INFO Detected ")]
    assert told == [
        "INFO Detected added column 'stocks.listing_date'",
        "INFO Detected type change from VARCHAR(length=9) to Text() on 'stocks.name'",
        "INFO Detected removed column 'stocks.more'",
    ]


@pytest.mark.parametrize("message", ["Add a column", 'Say """quoted"""', "back\\slash \\N", "价格"])
def test_a_new_migration_is_valid_python_whatever_its_message(
    message: str, with_revisions: Callable[..., Alembic]
) -> None:
    alembic = with_revisions()
    alembic.run("revision", "--autogenerate", "--rev-id", NEXT, "-m", message)
    (made,) = (alembic.config.parent / "versions").glob(f"{NEXT}_*.py")
    module = ast.parse(made.read_text())
    assert (ast.get_docstring(module) or "").startswith(message.replace('"""', "'''"))
