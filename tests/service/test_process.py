"""The service as the image starts it: a process of its own, under uvicorn."""

from __future__ import annotations

import signal

import pytest

from tests.support.service import AT_ONCE, events, running, wait_until_it_answers
from tests.support.waiting import PATIENCE, request


@pytest.mark.parametrize("workers", ["1", "2"])
def test_service_without_database_starts_logs_json_and_stops(workers: str, dead_port: int) -> None:
    """The service starts without a database, logs only JSON and stops at once."""
    with running(dead_port, WEB_CONCURRENCY=workers) as (process, address):
        live = wait_until_it_answers(process, address)
        assert live.status_code == 200
        assert "server" not in live.headers
        assert request("GET", f"{address}/api/v1/health").status_code == 503
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=AT_ONCE)
    lines = events(output)
    assert {"event", "level", "logger", "timestamp"} <= set.intersection(*(set(line) for line in lines))
    # One line for the request, none of uvicorn's own for it.
    assert [line["path"] for line in lines if line["event"] == "request"] == ["/api/v1/health"]
    assert not [line for line in lines if line["logger"] == "uvicorn.access"]


def test_the_level_counts_for_uvicorn_too(dead_port: int) -> None:
    with running(dead_port, LOG_LEVEL="error") as (process, address):
        wait_until_it_answers(process, address)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    assert "Shutting down" not in output


def test_settings_that_cannot_be_used_end_it_with_one_line(dead_port: int) -> None:
    with running(dead_port, DB_POOL_SIZE="many-canary", LOG_LEVEL="loud") as (process, _):
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    (line,) = events(output)
    assert line["level"] == "critical"
    assert "DB_POOL_SIZE: " in str(line["event"])
    assert "LOG_LEVEL: " in str(line["event"])
    assert "canary" not in output
