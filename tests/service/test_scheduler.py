"""The schedule: it begins after the service answers, outlives the database, and starts one sync of many workers."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier, Literal

from stockhelper_app import scheduler
from stockhelper_app.app import create_app
from stockhelper_app.bars import SHANGHAI
from stockhelper_app.scheduler import Busy, Schedule, Syncs
from stockhelper_app.sync import latest
from tests.service.conftest import settings_for
from tests.service.steps import LOCKS, RUNS, until
from tests.support import ROOT
from tests.support.fake_tushare import TOKEN, FakeTushare
from tests.support.fake_tushare import serving as serving_tushare
from tests.support.postgres import Postgres
from tests.support.service import running, wait_until_it_answers
from tests.support.waiting import PATIENCE, eventually

#: When no test runs.
LATER = f"{dt.datetime.now(SHANGHAI) + dt.timedelta(hours=12):%H:%M}"


def test_of_all_workers_one_syncs_and_the_service_answers_first(tables: Postgres, tmp_path: Path) -> None:
    environment = {
        **tables.environment,
        "SCHEDULER_ENABLED": "true",
        "SYNC_AT": LATER,
        "WEB_CONCURRENCY": "3",
        "LOG_LEVEL": "DEBUG",
    }
    log = tmp_path / "service.log"

    def told() -> list[str]:
        whole, _, _ = log.read_text().rpartition("\n")
        return [json.loads(line)["event"] for line in whole.splitlines()]

    with log.open("w") as written, running(tables.port, written, **environment) as (process, address):
        wait_until_it_answers(process, address)
        # Every worker had its turn, and all but one found nothing to do.
        eventually(lambda: sum(event in ("the sync has ended", "the sync is another's") for event in told()) == 3)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    assert tables.query(RUNS) == [("done", 59 * 3)]
    assert told().count("sync begins") == 1
    assert told().index("Application startup complete.") < told().index("sync begins")


@pytest.mark.anyio
async def test_switched_off_it_syncs_nothing(tables: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_AFTER_START", 0.0)
    app = create_app(settings_for(tables))
    async with app.router.lifespan_context(app):
        await asyncio.sleep(0.3)
        assert app.state.schedule.next_run() is None
    assert tables.query(RUNS) == []


@pytest.mark.anyio
async def test_a_database_that_is_away_is_asked_again(
    tables: Postgres, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_AFTER_START", 0.0)
    monkeypatch.setattr(scheduler, "_RETRY", 0.2)
    for key, value in {**tables.environment, "PYTHONPATH": str(ROOT / "docker/app")}.items():
        monkeypatch.setenv(key, value)

    def allow(connections: bool) -> None:
        statement = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        postgres.query(statement.format(Identifier(tables.name), Literal(connections)))

    syncs = Syncs(settings_for(tables))
    schedule = Schedule(settings_for(tables, sync_at=LATER), syncs)
    allow(False)
    schedule.start()
    try:
        await until(lambda: schedule._failures >= 2)
        allow(True)
        await until(lambda: schedule._failures == 0)
    finally:
        schedule.stop()
        await syncs.close()
    assert tables.query(RUNS) == [("done", 59 * 3)]


@pytest.fixture
def hanging(tables: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeTushare, threading.Event]]:
    """A provider that does not answer before it is released, and that processes started now will ask."""
    release = threading.Event()

    def hang(api: str, params: Mapping[str, Any]) -> None:
        release.wait()

    with serving_tushare() as fake:
        fake.before = hang
        environment = {"TUSHARE_TOKEN": TOKEN, "TUSHARE_URL": fake.url, "PYTHONPATH": str(ROOT / "docker/app")}
        for key, value in {**tables.environment, **environment}.items():
            monkeypatch.setenv(key, value)
        try:
            yield fake, release
        finally:
            release.set()


@pytest.mark.anyio
async def test_one_worker_knows_that_another_is_at_it(
    tables: Postgres, hanging: tuple[FakeTushare, threading.Event]
) -> None:
    _, release = hanging
    here, there = Syncs(settings_for(tables)), Syncs(settings_for(tables))
    under_way = asyncio.create_task(here.run())
    await until(lambda: tables.query(RUNS) == [("running", 0)])
    for other in (here, there):
        with pytest.raises(Busy):
            await other.run()
    release.set()
    assert await under_way == 0
    # The server lets go of the locks a moment after the connections that held them have ended.
    await until(lambda: tables.query(LOCKS) == [(0,)])
    assert await there.run() == 0


@pytest.fixture
async def ended(
    tables: Postgres, hanging: tuple[FakeTushare, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> Syncs:
    """Syncs that end when they are told to, or never."""
    monkeypatch.setattr(scheduler, "_GRACE", PATIENCE)
    return Syncs(settings_for(tables))


@pytest.mark.anyio
async def test_stopping_ends_the_sync(tables: Postgres, ended: Syncs) -> None:
    under_way = asyncio.create_task(ended.run())
    await until(lambda: tables.query(RUNS) == [("running", 0)])
    await ended.close()
    assert await under_way == 130
    assert tables.query(RUNS) == [("interrupted", 0)]


@pytest.mark.anyio
async def test_a_sync_is_told_once_that_it_must_end(
    tables: Postgres, ended: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    terminate = asyncio.subprocess.Process.terminate

    def tell(process: asyncio.subprocess.Process) -> None:
        told.append(process.pid)
        terminate(process)

    monkeypatch.setattr(asyncio.subprocess.Process, "terminate", tell)
    under_way = asyncio.create_task(ended.run())
    await until(lambda: tables.query(RUNS) == [("running", 0)])
    # As the schedule does that ends with it.
    under_way.cancel()
    await ended.close()
    assert len(told) == 1
    assert tables.query(RUNS) == [("interrupted", 0)]


@pytest.mark.anyio
async def test_a_sync_that_is_being_started_is_ended_too(
    tables: Postgres, ended: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = asyncio.create_subprocess_exec
    starting, go_on = asyncio.Event(), asyncio.Event()

    async def start_slowly(*arguments: Any, **more: Any) -> asyncio.subprocess.Process:
        starting.set()
        await go_on.wait()
        return await start(*arguments, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_slowly)
    under_way = asyncio.create_task(ended.run())
    await starting.wait()
    closing = asyncio.create_task(ended.close())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    # It may not have come so far as to say anything.
    assert await under_way in (130, -signal.SIGTERM)


@pytest.mark.anyio
async def test_it_runs_each_day_at_the_time_that_is_set(tables: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_AFTER_START", 0.0)

    async def nothing(self: Syncs, *arguments: str) -> int:
        return 0

    monkeypatch.setattr(Syncs, "run", nothing)
    settings = settings_for(tables, sync_at="09:05")
    schedule = Schedule(settings, Syncs(settings))
    assert schedule.next_run() is None
    schedule.start()
    try:
        await until(lambda: (when := schedule.next_run()) is not None and when > dt.datetime.now(SHANGHAI))
        when = schedule.next_run()
    finally:
        schedule.stop()
    assert when is not None
    assert (when.astimezone(SHANGHAI).hour, when.astimezone(SHANGHAI).minute) == (9, 5)


@pytest.mark.parametrize(("moment", "day"), [("16:29", "2026-11-19"), ("16:30", "2026-11-20"), ("23:59", "2026-11-20")])
def test_a_day_is_due_when_its_time_has_come_in_shanghai(
    moment: str, day: str, tables: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            assert tz is SHANGHAI
            return dt.datetime.fromisoformat(f"2026-11-20 {moment}").replace(tzinfo=tz)

    monkeypatch.setattr("stockhelper_app.sync.dt.datetime", Clock)
    assert latest(settings_for(tables)).isoformat() == day
