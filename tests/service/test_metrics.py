"""What Prometheus is told: on a port of its own, of all workers together. And how the real process ends."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from psycopg.sql import SQL, Identifier

from tests.service.steps import BEARER, RUNS, TOKEN, V1
from tests.support.alembic import Alembic
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.service import events, running, wait_until_it_answers
from tests.support.waiting import PATIENCE, eventually, request

#: Of two syncs and an import that come to no good end, the import is no sync.
FAILED = """
    INSERT INTO sync_runs (job, source, finished_at, outcome)
    SELECT job, 'csv', now(), outcome
    FROM (VALUES ('sync', 'failed'), ('import', 'failed'), ('sync', 'interrupted')) AS run (job, outcome)
"""


def scraped(port: int) -> Callable[..., float | None]:
    """Look once; return a function that finds the value of a sample."""
    answer = request("GET", f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 200
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]

    def value(name: str, **labels: str) -> float | None:
        found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None

    return value


def test_all_workers_are_told_of_on_a_port_of_its_own(tables: Postgres, migrated: Alembic, tmp_path: Path) -> None:
    owner = replace(migrated.database, name=tables.name)
    metrics = free_port()
    environment = {
        **tables.environment,
        "WEB_CONCURRENCY": "2",
        "DB_POOL_SIZE": "3",
        "METRICS_PORT": str(metrics),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "API_TOKEN": TOKEN,
        "BACKUP_MAX_AGE": "3",
    }
    with running(tables.port, **environment) as (process, address):
        wait_until_it_answers(process, address)
        for number in range(40):
            # A connection of its own each time, so that both workers have some.
            assert request("GET", f"{address}{V1}/stocks/{number:06}.SH").status_code == 404
        assert request("GET", f"{address}/metrics").status_code == 404
        value = scraped(metrics)
        assert value("stockhelper_data_since_timestamp_seconds") is None
        assert value("stockhelper_backup_timestamp_seconds") is None
        owner.query(SQL("ALTER DATABASE {} SET stockhelper.backed_up = '1764000000'").format(Identifier(tables.name)))
        began = time.time()
        assert request("POST", f"{address}{V1}/sync", headers=BEARER).status_code == 202
        eventually(lambda: tables.query(RUNS) == [("done", 59 * 3)])

        route = f"{V1}/stocks/{{symbol}}"
        # A request is counted after its answer has left, its seconds last; a worker begins in its own time. And a
        # connection is given back after what it was wanted for.
        seconds = "stockhelper_http_request_duration_seconds_count"
        for expected, name, labels in (
            (40, seconds, {"route": route}),
            (1, seconds, {"route": "none"}),
            (6, "stockhelper_db_pool_size", {}),
            (0, "stockhelper_db_pool_in_use", {}),
        ):
            eventually(lambda: scraped(metrics)(name, **labels) == expected)  # noqa: B023 - it is asked at once
        value = scraped(metrics)
        assert value("stockhelper_http_requests_total", method="GET", route=route, status="404") == 40
        assert value("stockhelper_http_requests_total", route="none", status="404") == 1
        assert value(seconds, route=route) == 40
        assert value("stockhelper_http_request_duration_seconds_bucket", route=route, le="+Inf") == 40
        assert value("stockhelper_database_up") == 1
        assert value("stockhelper_scheduler_enabled") == 0
        assert value("stockhelper_sync_rows_total") == 59 * 3
        assert value("stockhelper_sync_runs", outcome="done") == 1
        assert 0 <= (value("stockhelper_sync_age_seconds") or 0) <= time.time() - began
        assert (value("stockhelper_sync_last_day_timestamp_seconds") or 0) > 1e9
        assert value("stockhelper_sync_provider", provider="csv") == 1
        assert value("stockhelper_sync_failures") == 0
        assert began <= (value("stockhelper_data_since_timestamp_seconds") or 0) <= time.time()
        assert value("stockhelper_backup_timestamp_seconds") == 1764000000
        assert value("stockhelper_backup_max_age_seconds") == 3 * 86400
        assert 0 < (value("stockhelper_disk_free_bytes") or 0) < (value("stockhelper_disk_size_bytes") or 0)

        owner.query(FAILED)
        assert scraped(metrics)("stockhelper_sync_failures") == 2
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in output
    assert TOKEN not in output


def test_a_second_sync_is_told_that_one_is_at_work(tables: Postgres, migrated: Alembic) -> None:
    owner = replace(migrated.database, name=tables.name)
    with running(tables.port, **tables.environment, API_TOKEN=TOKEN) as (process, address):
        wait_until_it_answers(process, address)
        with owner.connect() as connection, connection.transaction(), ThreadPoolExecutor(4) as pool:
            # It cannot even begin before all of them are told.
            connection.execute("LOCK TABLE sync_runs")
            answers = list(pool.map(lambda _: request("POST", f"{address}{V1}/sync", headers=BEARER), range(4)))
        assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
        eventually(lambda: tables.query(RUNS) == [("done", 59 * 3)])
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def test_a_request_in_flight_is_answered_before_it_stops(tables: Postgres, migrated: Alembic) -> None:
    owner = replace(migrated.database, name=tables.name)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    metrics = free_port()
    with running(tables.port, **tables.environment, METRICS_PORT=str(metrics)) as (process, address):
        wait_until_it_answers(process, address)
        with ThreadPoolExecutor(1) as pool, owner.connect() as connection:
            with connection.transaction():
                connection.execute("LOCK TABLE stocks")
                asked = pool.submit(request, "GET", f"{address}{V1}/stocks")
                eventually(lambda: owner.query(waiting) == [(1,)])
                assert scraped(metrics)("stockhelper_db_pool_in_use") == 1
                process.send_signal(signal.SIGTERM)
                eventually(lambda: not listens(address))
                assert not asked.done()
            assert asked.result().status_code == 200
        process.communicate(timeout=PATIENCE)


def listens(address: str) -> bool:
    host, _, port = address.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def test_pools_that_do_not_fit_the_server_are_told(tables: Postgres) -> None:
    with running(tables.port, **tables.environment, DB_POOL_SIZE="100") as (process, address):
        wait_until_it_answers(process, address)
        assert request("GET", f"{address}{V1}/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    (line, *_) = [line for line in events(output) if str(line["event"]).startswith("more connections")]
    assert (line["level"], line["wanted"]) == ("error", 103)
