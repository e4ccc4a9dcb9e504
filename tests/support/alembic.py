"""Alembic as the container runs it: its command line, with the environment as its only input.

By default it runs in the test's process, which takes a tenth of the processor time of one of its own. What a test
starts beside something else, kills, or wants to see as a shell does gets a process.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest
from alembic.config import CommandLine, Config
from psycopg.sql import SQL, Identifier

from stockhelper_app import roles
from tests.support import ROOT
from tests.support.in_process import own_surroundings, written
from tests.support.leftovers import run_mark
from tests.support.postgres import Postgres
from tests.support.waiting import PATIENCE

CONFIG = ROOT / "migrations/alembic.ini"
#: The loggers whose level or filters a command changes.
_LOGGERS = (
    "",
    "stockhelper.migrate",
    "stockhelper_app.migration",
    "alembic.runtime.migration",
    "alembic.autogenerate",
    "alembic.util.messaging",
)


@dataclass(frozen=True)
class Alembic:
    """Runs Alembic's commands on one database."""

    database: Postgres
    role: str
    password: str
    config: Path = CONFIG
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def application(self) -> Postgres:
        """The database as the application sees it."""
        return self.database.as_role(self.role, self.password)

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Return all that a command is told."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "docker/app"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ALEMBIC_CONFIG": str(self.config),
            "APP_DB_USER": self.role,
            "APP_DB_PASSWORD": self.password,
            "DB_CONNECT_TIMEOUT": f"{PATIENCE:g}",
            **run_mark(),
            **self.database.environment,
            **self.more,
            **extra,
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "alembic", *arguments],
            # Nowhere in particular: the container's working folder is of no importance.
            cwd="/",
            env=self.environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def launch(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a process of its own to its end, whatever that is."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=2 * PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process to its end, whatever that is."""
        return _run_in_process(arguments, self.environment(environment))

    def run(self, *arguments: str, **environment: str) -> str:
        """Run a command in this process that must succeed; return its stdout."""
        done = self(*arguments, **environment)
        assert done.returncode == 0, f"{arguments} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def _run_in_process(arguments: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Do what `python -m alembic` does, in this process."""
    with (
        own_surroundings(Path("/"), environment) as (out, err),
        _own_logs(),
        patch.multiple(sys, path=[*sys.path], dont_write_bytecode=True),
    ):
        line = CommandLine(prog="alembic")
        options = line.parser.parse_args(arguments)
        try:
            # Named, as a configuration's own stdout is the one that was there when Alembic was imported.
            line.run_cmd(Config(environment["ALEMBIC_CONFIG"], cmd_opts=options, stdout=out), options)
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0) % 256
        except Exception:  # noqa: BLE001 - Python itself ends a process like this
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(arguments, code, written(out), written(err))


@contextmanager
def _own_logs() -> Iterator[None]:
    """Let the block set up logs as a fresh process does, and take that back."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, logger.handlers[:], logger.filters[:]) for logger in loggers]
    logging.getLogger().handlers.clear()
    try:
        yield
    finally:
        for logger, (level, handlers, filters) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.filters[:] = filters


@contextmanager
def alembic_on(database: Postgres) -> Iterator[Alembic]:
    """Alembic on a database, with a role of its own, which ends with the block."""
    role = f"app_{uuid.uuid4().hex[:12]}"
    yield Alembic(database, role, uuid.uuid4().hex)
    with database.connect() as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
            connection.execute(SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(Identifier(role)))


@contextmanager
def migrated_copy(at_head: Alembic) -> Iterator[Alembic]:
    """A copy of a migrated database, with a role of its own."""
    with (
        at_head.database.new_database(template=at_head.database.name) as copy,
        alembic_on(copy) as made,
    ):
        with copy.connect() as connection:
            roles.ensure(connection, made.role, made.password)
        yield made


@pytest.fixture(scope="session")
def at_head(postgres: Postgres) -> Iterator[Alembic]:
    """A migrated database, and the application's role; for reading, for refusals, and to make copies of."""
    with postgres.new_database() as database, alembic_on(database) as made:
        made.run("upgrade", "head")
        yield made
