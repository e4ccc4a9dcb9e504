"""A real PostgreSQL 15 for tests: one container for the session, one database for each test.

The container cannot outlive the tests, not even when they are killed: its main process reads from a connection that
this process holds, and ends with it. Its data lies in memory.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import docker
import psycopg
import pytest
from docker.errors import APIError, DockerException, NotFound
from psycopg.sql import SQL, Composed, Identifier

from stockhelper_cli.engine.endpoints import find
from stockhelper_cli.errors import EngineError
from tests.support.waiting import PATIENCE, eventually

#: Every object on the engine that belongs to a test; whoever finds one later may remove it.
LABEL = {"stockhelper.test": "1"}

# The image's own entrypoint and command run beside `cat`. The end of either ends the container.
_WATCHED = """{ "$@"; kill $$; } & exec cat >/dev/null"""


@dataclass(frozen=True)
class Postgres:
    """Where a database is, and who may connect to it."""

    host: str
    port: int
    user: str
    password: str
    name: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the service and the migrations read."""
        return {
            "POSTGRES_HOST": self.host,
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_USER": self.user,
            "POSTGRES_PASSWORD": self.password,
            "POSTGRES_DB": self.name,
            "DB_CONNECT_TIMEOUT": str(int(PATIENCE)),
        }

    def as_role(self, user: str, password: str) -> Postgres:
        """The same database as somebody else sees it."""
        return replace(self, user=user, password=password)

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection in autocommit mode."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=self.name,
            connect_timeout=int(PATIENCE),
            autocommit=True,
        )

    def query(self, statement: LiteralString | Composed, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows, none for one that returns nothing."""
        with closing(self.connect()) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def new_database(self, template: str = "template1") -> Iterator[Postgres]:
        """A copy of a database that nobody is connected to; dropped at the end, whoever is connected by then."""
        new = replace(self, name=f"test_{uuid.uuid4().hex[:12]}")
        # From elsewhere: nobody may be connected to a template.
        with closing(replace(self, name="postgres").connect()) as connection:
            # PostgreSQL itself waits 5 s for the sessions that have just been closed.
            here = "SELECT FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
            eventually(lambda: not connection.execute(here, (template,)).rowcount)
            connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(new.name), Identifier(template)))
            try:
                yield new
            finally:
                end = "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity WHERE datname = %s"
                connection.execute(end, (int(PATIENCE * 1000), new.name))
                connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(new.name)))


def image_name(client: docker.DockerClient) -> str:
    """Return the image to test with: what STOCKHELPER_TEST_POSTGRES_IMAGE says, else the official one, else ours."""
    wanted = os.environ.get("STOCKHELPER_TEST_POSTGRES_IMAGE")
    candidates = [wanted] if wanted else ["postgres:15-alpine", "localhost/stockhelper-postgres:15"]
    for name in candidates:
        try:
            client.images.get(name)
        except NotFound:
            continue
        return name
    raise AssertionError(f"no PostgreSQL image on the engine ({' or '.join(candidates)}): run `stockhelper setup`")


@contextmanager
def container(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """Run a PostgreSQL with these further arguments, and yield it when it answers a query over TCP."""
    password = uuid.uuid4().hex
    try:
        # As the command finds it: the SDK's own way knows no contexts.
        client = docker.DockerClient(base_url=find(os.environ).url)
    except (DockerException, EngineError) as error:
        raise AssertionError(f"the tests need a container engine: {error}") from error
    with closing(client):
        image = client.images.get(image_name(client))
        entrypoint = image.attrs["Config"]["Entrypoint"] or []
        running = client.containers.create(
            image,
            entrypoint=["sh", "-c", _WATCHED, "sh", *entrypoint],
            command=[
                "postgres",
                "-c",
                "fsync=off",
                "-c",
                "full_page_writes=off",
                "-c",
                "synchronous_commit=off",
                *arguments,
            ],
            environment={
                "POSTGRES_USER": "owner",
                "POSTGRES_PASSWORD": password,
                "POSTGRES_DB": "main",
                "POSTGRES_INITDB_ARGS": "--locale=C --encoding=UTF8 --auth-host=scram-sha-256 --no-sync",
                "PGDATA": "/data/cluster",
                **(environment or {}),
            },
            user="postgres",
            init=True,
            stdin_open=True,
            tmpfs={"/data": "mode=1777", "/var/lib/postgresql/data": "mode=1777"},
            ports={"5432/tcp": ("127.0.0.1", 0)},
            labels=LABEL,
            auto_remove=True,
        )
        try:
            with _lifeline(client, str(running.id)):
                running.start()
                running.reload()
                (published, *_) = running.ports["5432/tcp"] or []
                server = Postgres("127.0.0.1", int(published["HostPort"]), "owner", password, "main")
                _wait_ready(server, running)
                yield server
        finally:
            # auto_remove may have come first, as its lifeline is cut by now.
            with suppress(NotFound, APIError):
                running.remove(force=True, v=True)


@contextmanager
def _lifeline(client: docker.DockerClient, identity: str) -> Iterator[None]:
    """Hold the standing input of a container: the engine closes it when we let go, or are no more."""
    attached: Any = client.api.attach_socket(identity, {"stdin": 1, "stream": 1})
    try:
        yield
    finally:
        # The response first: it flushes what it was read from.
        attached._response.close()
        attached.close()


def _wait_ready(server: Postgres, running: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    logs = ""
    while True:
        try:
            server.query("SELECT 1")
        except psycopg.OperationalError as error:
            # What it last said, for the engine forgets a container and its logs once it has ended.
            try:
                logs = running.logs(tail=30).decode(errors="replace") or logs
            except APIError:
                raise AssertionError(f"PostgreSQL ended while it was starting:\n{logs}") from error
            if time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL is not ready after {PATIENCE:g} s:\n{logs}") from error
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole session, as its superuser; tests use `database`."""
    with container() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Postgres]:
    """An empty database of the test's own."""
    with postgres.new_database() as new:
        yield new
