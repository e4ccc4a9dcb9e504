from __future__ import annotations

import asyncio
import time

import pytest

import stockhelper_cli
from stockhelper_app.app import create_app
from stockhelper_app.db import HEALTH_TIMEOUT
from tests.service.conftest import Lines, serving, settings_at, settings_for
from tests.service.steps import Line
from tests.support.postgres import Postgres
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio

CONNECTED = {"status": "ok", "database": "connected"}
DISCONNECTED = {"status": "error", "database": "disconnected"}
#: Seconds: the promised two, and many for a busy machine; less than any other question may take here.
LIMIT = PATIENCE / 2


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the limit of a question for the health as it is promised, and a connection's far from it."""
    assert HEALTH_TIMEOUT == 2
    monkeypatch.setattr("stockhelper_app.db.HEALTH_TIMEOUT", HEALTH_TIMEOUT)


async def test_health_says_connected(database: Postgres) -> None:
    async with serving(settings_for(database)) as client:
        answer = await client.get("/api/v1/health")
    assert (answer.status_code, answer.json()) == (200, CONNECTED)
    assert answer.headers["cache-control"] == "no-store"


async def test_index_tells_name_and_version(dead_port: int) -> None:
    async with serving(settings_at(dead_port)) as client:
        answer = await client.get("/api/v1")
    assert answer.json() == {"name": "stockhelper", "version": stockhelper_cli.__version__}


async def test_live_does_not_ask_the_database(silent_port: int) -> None:
    async with serving(settings_at(silent_port)) as client:
        started = time.monotonic()
        answer = await client.get("/api/v1/health/live")
        assert time.monotonic() - started < LIMIT
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_health_is_503_when_nothing_listens(dead_port: int, log_lines: Lines) -> None:
    async with serving(settings_at(dead_port)) as client:
        answer = await client.get("/api/v1/health")
    assert (answer.status_code, answer.json()) == (503, DISCONNECTED)
    (line,) = [line for line in log_lines() if line["event"] == "database not reachable"]
    assert "refused" in line["error"]
    assert line["request_id"] == answer.headers["x-request-id"]


async def test_health_with_silent_database_is_503_within_the_limit(silent_port: int, hasty: None) -> None:
    """If the database accepts connections but never answers, health is 503 within its time limit."""
    async with serving(settings_at(silent_port, db_connect_timeout=300)) as client:
        started = time.monotonic()
        answer = await client.get("/api/v1/health")
        assert time.monotonic() - started < LIMIT
    assert (answer.status_code, answer.json()) == (503, DISCONNECTED)


async def test_many_questions_share_one_probe_and_one_limit(silent_port: int, hasty: None) -> None:
    async with serving(settings_at(silent_port, db_pool_size=1, db_connect_timeout=300)) as client:
        started = time.monotonic()
        answers = await asyncio.gather(*(client.get("/api/v1/health") for _ in range(50)))
        assert time.monotonic() - started < LIMIT
    assert {answer.status_code for answer in answers} == {503}


async def test_health_is_503_for_a_wrong_password_and_tells_nobody(database: Postgres, log_lines: Lines) -> None:
    async with serving(settings_for(database.as_role(database.user, "canary-secret"))) as client:
        answer = await client.get("/api/v1/health")
    assert (answer.status_code, answer.json()) == (503, DISCONNECTED)
    lines = log_lines()
    assert any("password authentication failed" in line.get("error", "") for line in lines)
    assert "canary-secret" not in str(lines)


async def test_health_reconnects_after_connections_were_cut(database: Postgres) -> None:
    """Health reconnects to the database after its connections were cut."""
    async with serving(settings_for(database)) as client:
        assert (await client.get("/api/v1/health")).status_code == 200
        # With a time limit it waits until it has ended.
        cut = "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity WHERE application_name = %s AND datname = %s"
        assert database.query(cut, int(PATIENCE * 1000), "stockhelper-app", database.name) == [(True,)]
        assert (await client.get("/api/v1/health")).status_code == 200


async def test_health_with_hanging_database_keeps_limit_and_recovers(
    database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health keeps its time limit while the database hangs, and recovers as soon as it answers."""
    async with Line().to(database) as line:
        # One connection only: it must be given back each time.
        app = create_app(settings_for(database, postgres_port=line.port, db_pool_size=1))
        async with serving(app) as client:
            assert (await client.get("/api/v1/health")).status_code == 200
            line.flowing.clear()
            monkeypatch.setattr("stockhelper_app.db.HEALTH_TIMEOUT", HEALTH_TIMEOUT)
            for _ in range(3):
                started = time.monotonic()
                assert (await client.get("/api/v1/health")).json() == DISCONNECTED
                assert time.monotonic() - started < LIMIT
            line.flowing.set()
            # The next one is answered well, however long it takes.
            monkeypatch.setattr("stockhelper_app.db.HEALTH_TIMEOUT", PATIENCE)
            assert (await client.get("/api/v1/health")).json() == CONNECTED
            assert app.state.database.engine.pool.checkedout() == 0


async def test_stopping_does_not_wait_for_a_database_that_hangs(
    database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Line().to(database) as line:
        async with serving(settings_for(database, postgres_port=line.port)) as client:
            assert (await client.get("/api/v1/health")).status_code == 200
            line.flowing.clear()
            monkeypatch.setattr("stockhelper_app.db.HEALTH_TIMEOUT", HEALTH_TIMEOUT)
            assert (await client.get("/api/v1/health")).status_code == 503
            started = time.monotonic()
        # Its connection would not end by itself.
        assert time.monotonic() - started < LIMIT
