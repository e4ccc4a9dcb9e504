from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine

from stockhelper_app.models import Base, Stock
from stockhelper_app.settings import MigrationSettings
from tests.support import ROOT
from tests.support.alembic import Alembic
from tests.support.postgres import Postgres
from tests.support.revisions import HEAD, REVISIONS


def schema(database: Postgres) -> list[tuple[Any, ...]]:
    """Everything that the tables are made of, except Alembic's own."""
    return database.query(
        """
        SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
               a.attnotnull::text, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
        UNION ALL
        SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), NULL, NULL
        FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
        UNION ALL
        SELECT 'index', tablename, indexname, indexdef, NULL, NULL
        FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
        ORDER BY 1, 2, 3
        """
    )


def test_up_down_up(alembic: Alembic) -> None:
    assert f"Running upgrade  -> {REVISIONS[0]}" in alembic.run("upgrade", "head")
    first = schema(alembic.database)
    alembic.run("downgrade", "base")
    assert schema(alembic.database) == []
    alembic.run("upgrade", "head")
    assert schema(alembic.database) == first


def test_the_migrations_make_what_the_models_say(migrated: Alembic) -> None:
    assert "No new upgrade operations detected" in migrated.run("check")
    # `check` does not compare CHECK constraints; the catalogue knows them all.
    with migrated.database.new_database() as other:
        settings = MigrationSettings.model_validate({name.lower(): v for name, v in other.environment.items()})
        engine = create_engine(settings.url)
        Base.metadata.create_all(engine)
        engine.dispose()
        assert schema(migrated.database) == schema(other)


def test_a_model_without_a_migration_is_found(migrated: Alembic) -> None:
    migrated.database.query("ALTER TABLE stocks DROP COLUMN listing_date")
    found = migrated("check")
    assert found.returncode != 0
    assert "listing_date" in found.stdout + found.stderr


def test_an_upgrade_with_nothing_to_do_says_where_it_is(migrated: Alembic) -> None:
    assert migrated.run("upgrade", "head").splitlines() == [f"INFO the schema is at {HEAD}"]


def test_current_prints_the_revision_only_and_changes_nothing(migrated: Alembic) -> None:
    assert migrated.run("current").strip() == f"{HEAD} (head)"
    migrated.run("downgrade", "base")
    assert migrated.run("current").strip() == ""


def test_commands_work_as_processes_of_their_own(alembic: Alembic) -> None:
    """The container runs each command in a fresh process; the other tests do so only where that matters."""
    upgraded, current, downgraded = (
        alembic.launch(*command.split()) for command in ("upgrade head", "current", "downgrade base")
    )
    assert [upgraded.returncode, current.returncode, downgraded.returncode] == [0, 0, 0]
    assert upgraded.stdout.endswith(f"INFO the schema is at {HEAD}\n")
    assert current.stdout.strip() == f"{HEAD} (head)"
    assert downgraded.stdout.endswith("INFO the schema is at base\n")
    assert upgraded.stderr + current.stderr + downgraded.stderr == ""
    assert schema(alembic.database) == []


def test_looking_neither_needs_the_lock_nor_makes_the_role(alembic: Alembic) -> None:
    alembic.run("current")
    assert alembic.database.query("SELECT count(*) FROM pg_roles WHERE rolname = %s", alembic.role) == [(0,)]


def test_as_sql_it_asks_no_database_and_prints_nothing_else(alembic: Alembic, dead_environment: dict[str, str]) -> None:
    done = alembic("upgrade", "head", "--sql", **dead_environment)
    assert done.returncode == 0, done.stderr
    assert "INFO" not in done.stdout
    with alembic.database.connect() as connection:
        connection.execute(done.stdout.encode())
    assert alembic.run("current").strip() == f"{HEAD} (head)"
    assert schema(alembic.database)


@pytest.fixture
def dead_environment() -> dict[str, str]:
    return {"POSTGRES_HOST": "host.invalid", "POSTGRES_PASSWORD": ""}


@pytest.mark.parametrize(
    ("symbol", "name", "exchange", "constraint"),
    [
        ("600519", "x", "", "symbol_form"),
        ("60051.SH", "x", "SH", "symbol_form"),
        ("600519.sh", "x", "sh", "symbol_form"),
        ("600519.SH\n", "x", "SH\n", "symbol_form"),
        ("６00519.SH", "x", "SH", "symbol_form"),
        ("600519.XX", "x", "XX", "symbol_form"),
        ("600519.SH", "x", "SZ", "exchange_of_symbol"),
        ("600519.SH", "", "SH", "name_given"),
    ],
)
def test_a_stock_that_is_none_is_refused(
    symbol: str, name: str, exchange: str, constraint: str, at_head: Alembic
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=rf"ck_{Stock.__tablename__}_{constraint}"):
        at_head.application.query(
            "INSERT INTO stocks (symbol, name, exchange) VALUES (%s, %s, %s)", symbol, name, exchange
        )


def test_a_stock_gets_its_timestamps(migrated: Alembic) -> None:
    migrated.application.query(
        "INSERT INTO stocks (symbol, name, exchange, listing_date) VALUES ('600519.SH', '贵州茅台', 'SH', '2001-08-27')"
    )
    ((created, updated, name),) = migrated.application.query("SELECT created_at, updated_at, name FROM stocks")
    assert created == updated
    assert created.tzinfo is not None
    assert name == "贵州茅台"


def test_revisions_are_numbered_in_the_order_they_run_in() -> None:
    names = sorted(path.stem for path in (ROOT / "migrations/versions").glob("*.py"))
    assert [name[:5] for name in names] == [f"{number:04}_" for number in range(1, len(names) + 1)]


def test_no_address_and_no_password_lies_in_the_folder() -> None:
    text = "".join(path.read_text() for path in (ROOT / "migrations").rglob("*") if path.suffix in {".ini", ".py"})
    assert not re.search(r"sqlalchemy\.url|postgresql(\+\w+)?://", text)
