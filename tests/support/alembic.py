"""Alembic as the container runs it: a process of its own, with the environment as its only input."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from psycopg.sql import SQL, Identifier

from tests.support import ROOT
from tests.support.leftovers import run_mark
from tests.support.postgres import Postgres
from tests.support.waiting import PATIENCE

CONFIG = ROOT / "migrations/alembic.ini"


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

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "alembic", *arguments],
            # Nowhere in particular: the container's working folder is of no importance.
            cwd="/",
            env={
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
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=2 * PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run(self, *arguments: str, **environment: str) -> str:
        """Run a command that must succeed; return its stdout."""
        done = self(*arguments, **environment)
        assert done.returncode == 0, f"{arguments} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@contextmanager
def alembic_on(database: Postgres) -> Iterator[Alembic]:
    role = f"app_{uuid.uuid4().hex[:12]}"
    yield Alembic(database, role, uuid.uuid4().hex)
    with database.connect() as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
            connection.execute(SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(Identifier(role)))
