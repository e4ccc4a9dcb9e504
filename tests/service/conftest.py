"""The service in this process, its logs included, as it runs in the container."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
import structlog
from psycopg.sql import SQL, Identifier
from schemathesis.pytest.plugin import SchemathesisFunction
from starlette.applications import Starlette

from stockhelper_app.app import create_app
from stockhelper_app.settings import Settings
from tests.service.steps import TOKEN, stock
from tests.support.alembic import Alembic, at_head
from tests.support.environment import PROXIES
from tests.support.postgres import Postgres, database, postgres
from tests.support.waiting import PATIENCE

__all__ = ["at_head", "database", "postgres"]

Lines = Callable[[], list[dict[str, Any]]]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give each operation that schemathesis tests an id of its own, which this version of pytest does not.

    Under xdist, tests with equal ids count as one.
    """
    if isinstance(item, SchemathesisFunction) and item.parent is not None:
        item._id = item.parent.id.child(item.name)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the limits of the service's own that only their own tests want to see."""
    for name in ("db.QUERY_TIMEOUT", "routes.QUERY_TIMEOUT", "db.HEALTH_TIMEOUT"):
        monkeypatch.setattr(f"stockhelper_app.{name}", PATIENCE)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the servers of the tests without the proxies of this machine."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """The log since the last look; fails for a line that is not JSON."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port with nothing behind it, and which nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="session")
def migrated(at_head: Alembic) -> Alembic:
    """A database with every table, and the application's role; nobody is connected to it."""
    return at_head


@pytest.fixture
def tables(migrated: Alembic) -> Iterator[Postgres]:
    """A database of the test's own with every table, as the application sees it."""
    with copy_of(migrated) as new:
        yield new


@contextmanager
def copy_of(migrated: Alembic) -> Iterator[Postgres]:
    """A copy of a migrated database, as the application sees it."""
    with migrated.database.new_database(template=migrated.database.name) as new:
        # What a role may do to a database as such is not copied with it.
        new.query(SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(Identifier(new.name), Identifier(migrated.role)))
        yield new.as_role(migrated.role, migrated.password)


def settings_for(database: Postgres, **more: Any) -> Settings:
    environment = {name.lower(): value for name, value in database.environment.items()}
    return Settings(**{"scheduler_enabled": False} | environment | more)


def settings_at(port: int, **more: Any) -> Settings:
    return Settings(**{"scheduler_enabled": False} | more, postgres_host="127.0.0.1", postgres_port=port)


@asynccontextmanager
async def serving(what: Settings | Starlette) -> AsyncIterator[httpx.AsyncClient]:
    served = create_app(what) if isinstance(what, Settings) else what
    async with (
        served.router.lifespan_context(served),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=served), base_url="http://stockhelper") as client,
    ):
        yield client


@pytest.fixture
def stocked(tables: Postgres) -> Postgres:
    """A few shares, in a database of the test's own."""
    stock(tables)
    return tables


@pytest.fixture(scope="module")
def shelf(migrated: Alembic) -> Iterator[Postgres]:
    """The same shares for all tests of a module that only read."""
    with copy_of(migrated) as tables:
        stock(tables)
        before = contents(tables)
        yield tables
        assert contents(tables) == before, "a test changed what others read: it needs `stocked`"


def contents(tables: Postgres) -> dict[str, object]:
    """Return every row of every table."""
    return {
        name: tables.query(SQL("SELECT * FROM {} AS row ORDER BY row").format(Identifier(name)))
        for name in ("stocks", "daily_bars", "watchlist", "sync_runs")
    }


@pytest.fixture
def shares(request: pytest.FixtureRequest) -> Postgres:
    """The database of who asks: the test's own where it has one, else the module's."""
    database: Postgres = request.getfixturevalue("stocked" if "stocked" in request.fixturenames else "shelf")
    return database


@pytest.fixture
async def client(shares: Postgres) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings_for(shares, api_token=TOKEN)) as made:
        yield made
