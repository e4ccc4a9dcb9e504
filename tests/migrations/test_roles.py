from __future__ import annotations

import uuid
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from stockhelper_app import roles
from tests.support.alembic import Alembic
from tests.support.revisions import HEAD

ROW = "INSERT INTO stocks (symbol, name, exchange) VALUES ('600519.SH', 'x', 'SH')"


def as_owner(alembic: Alembic, *statements: LiteralString) -> None:
    with alembic.database.connect() as connection:
        for statement in statements:
            connection.execute(SQL(statement).format(role=Identifier(alembic.role)))


def test_the_application_reads_and_writes_rows(alembic: Alembic) -> None:
    alembic.run("upgrade", "head")
    application = alembic.application
    application.query(ROW)
    application.query("UPDATE stocks SET name = 'y'")
    assert application.query("SELECT name FROM stocks") == [("y",)]
    application.query("DELETE FROM stocks")
    assert application.query("SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_application_role_may_create_temporary_tables(migrated: Alembic) -> None:
    """The application may create temporary tables, and other roles may not."""
    assert migrated.application.query("CREATE TEMPORARY TABLE t AS SELECT 1 AS x") == []
    # Nobody else may: not every role of a server that others use, too, is the application's.
    rights = "SELECT has_database_privilege('public', current_database(), 'TEMPORARY')"
    assert migrated.database.query(rights) == [(False,)]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t ()",
        "CREATE SCHEMA s",
        "CREATE EXTENSION pgcrypto",
        "CREATE ROLE r",
        "CREATE DATABASE d",
        "ALTER TABLE stocks ADD x int",
        "DROP TABLE stocks",
        "TRUNCATE stocks",
        "CREATE INDEX ON stocks (name)",
        "DELETE FROM alembic_version",
        "UPDATE alembic_version SET version_num = 'x'",
        "COPY stocks TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM pg_authid",
        "SET ROLE owner",
    ],
)
def test_the_application_can_do_nothing_else(statement: LiteralString, at_head: Alembic) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        at_head.application.query(statement)


def test_a_table_that_comes_later_is_usable_at_once(alembic: Alembic) -> None:
    alembic.run("upgrade", "head")
    as_owner(alembic, "CREATE TABLE later (id int GENERATED ALWAYS AS IDENTITY, s serial)")
    assert alembic.application.query("INSERT INTO later DEFAULT VALUES RETURNING id") == [(1,)]
    assert alembic.application.query("SELECT currval('later_s_seq')::int IS NULL FROM (VALUES (1)) v WHERE false") == []


def test_a_changed_password_is_repaired(migrated: Alembic) -> None:
    as_owner(migrated, "ALTER ROLE {role} PASSWORD 'another'")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        migrated.application.connect()
    migrated.run("upgrade", "head")
    migrated.application.query(ROW)


@pytest.mark.parametrize("password", [r"""@:/?#%'"\ $x {y} %s""", "密码", "SCRAM-SHA-256$4096:not$a:verifier"])
def test_any_password_works(password: str, alembic: Alembic) -> None:
    alembic.run("upgrade", "head", APP_DB_PASSWORD=password)
    alembic.database.as_role(alembic.role, password).query(ROW)


def test_a_role_with_too_much_or_too_little_is_repaired(migrated: Alembic) -> None:
    as_owner(
        migrated,
        "ALTER ROLE {role} SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS NOLOGIN CONNECTION LIMIT 0"
        " VALID UNTIL '2001-01-01'",
        "GRANT pg_write_all_data, pg_execute_server_program TO {role}",
        "GRANT CREATE ON SCHEMA public TO {role}",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "GRANT ALL ON stocks, alembic_version TO {role}",
        "CREATE TABLE theirs ()",
        "ALTER TABLE theirs OWNER TO {role}",
        "REVOKE INSERT ON stocks FROM {role}",
    )
    migrated.run("upgrade", "head")
    migrated.application.query(ROW)
    for statement in ("CREATE TABLE t ()", "DROP TABLE theirs", "TRUNCATE stocks", "DELETE FROM alembic_version"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            migrated.application.query(statement)
    assert migrated.database.query(
        "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls,"
        " rolconnlimit, rolvaliduntil::text FROM pg_roles WHERE rolname = %s",
        migrated.role,
    ) == [(False, -1, "infinity")]
    assert migrated.database.query(
        "SELECT count(*) FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = %s)",
        migrated.role,
    ) == [(0,)]


def test_a_role_that_was_dropped_is_made_again(migrated: Alembic) -> None:
    as_owner(migrated, "DROP OWNED BY {role}", "DROP ROLE {role}")
    assert "made the application's role" in migrated.run("upgrade", "head")
    migrated.application.query(ROW)


def test_repairing_disturbs_no_connection(migrated: Alembic) -> None:
    with migrated.application.connect() as connection:
        connection.execute(ROW)
        migrated.run("upgrade", "head")
        connection.execute("DELETE FROM stocks")


def test_the_owner_itself_is_never_taken_for_the_application(migrated: Alembic) -> None:
    refused = migrated("upgrade", "head", APP_DB_USER=migrated.database.user)
    assert refused.returncode != 0
    assert "APP_DB_USER must be another role than POSTGRES_USER" in refused.stdout
    assert migrated.database.query("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(True,)]


def test_an_empty_password_is_refused_before_anything_changes(alembic: Alembic) -> None:
    refused = alembic("upgrade", "head", APP_DB_PASSWORD="")
    assert refused.returncode != 0
    assert "APP_DB_PASSWORD is empty" in refused.stdout
    assert alembic.run("current") == ""


def test_without_a_name_no_role_is_made(alembic: Alembic) -> None:
    roles = "SELECT count(*) FROM pg_roles"
    before = alembic.database.query(roles)
    alembic.run("upgrade", "head", APP_DB_USER="")
    assert alembic.database.query(roles) == before


def test_an_owner_who_is_no_superuser_suffices(alembic: Alembic) -> None:
    database, owner = alembic.database, f"owner_{uuid.uuid4().hex[:12]}"
    with database.connect() as connection:
        for statement in (
            "CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'x'",
            "ALTER DATABASE {database} OWNER TO {owner}",
            "ALTER SCHEMA public OWNER TO {owner}",
        ):
            connection.execute(SQL(statement).format(owner=Identifier(owner), database=Identifier(database.name)))
    try:
        for _ in range(2):
            alembic.run("upgrade", "head", POSTGRES_USER=owner, POSTGRES_PASSWORD="x")
        alembic.application.query(ROW)
    finally:
        with database.connect() as connection:
            for statement in ("REASSIGN OWNED BY {} TO CURRENT_USER", "DROP OWNED BY {}", "DROP ROLE {}"):
                connection.execute(SQL(statement).format(Identifier(owner)))


def test_the_password_itself_is_not_sent(migrated: Alembic, tmp_path: Path) -> None:
    # A server may log every statement: what libpq's trace shows of the wire is the most it can know.
    with (tmp_path / "wire").open("wb+") as wire, migrated.database.connect() as connection:
        connection.pgconn.trace(wire.fileno())
        roles.ensure(connection, migrated.role, "canary-password")
        connection.pgconn.untrace()
        wire.seek(0)
        sent = wire.read()
    assert b"PASSWORD 'SCRAM-SHA-256$" in sent
    assert b"canary-password" not in sent
    migrated.database.as_role(migrated.role, "canary-password").query(ROW)
