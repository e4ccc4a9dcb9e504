"""The service as the image starts it: a process of its own, under uvicorn."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from tests.sandbox import free_port
from tests.waiting import PATIENCE, request

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "docker/app"

#: Seconds until it must have answered or ended, whatever others are up to: less than it waits for any of them.
AT_ONCE = PATIENCE
#: Seconds that it waits for others, where a test does not say something else.
LONG = 5 * AT_ONCE
#: Limits of its own that no test here wants to see.
PATIENT = f"import stockhelper_app.db as db; db.QUERY_TIMEOUT = db.HEALTH_TIMEOUT = {PATIENCE}"


def image_command() -> list[str]:
    """What the Dockerfile's CMD says."""
    (command,) = re.findall(r"^CMD (\[.*\])$", (SERVICE / "Dockerfile").read_text(), re.MULTILINE)
    arguments: list[str] = json.loads(command)
    return arguments


@contextmanager
def running(
    database_port: int, log: IO[str] | int = subprocess.PIPE, before: str = "", /, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address where it will answer; `before` is Python that each process of it runs first."""
    port = free_port()
    command = image_command()
    limits = dict.fromkeys(["--timeout-graceful-shutdown", "--timeout-worker-healthcheck"], f"{LONG:.0f}")
    for option, value in {"--port": str(port), "--host": "127.0.0.1", **limits}.items():
        command[command.index(option) + 1] = value
    first = tempfile.TemporaryDirectory()
    (Path(first.name) / "sitecustomize.py").write_text(f"{PATIENT}\n{before}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{first.name}:{SERVICE}",
            "UVICORN_LOG_CONFIG": str(SERVICE / "stockhelper_app/logging.json"),
            "UVICORN_TIMEOUT_KEEP_ALIVE": f"{LONG:.0f}",
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(database_port),
            "SCHEDULER_ENABLED": "false",
            **environment,
        },
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with first, process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                process.kill()


def wait_until_it_answers(process: subprocess.Popen[str], address: str) -> httpx.Response:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return request("GET", f"{address}/api/v1/health/live")
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"the service does not answer:\n{process.communicate()[0]}")
            time.sleep(0.02)


def events(output: str) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_starts_without_a_database_logs_json_only_and_stops_at_once(workers: str, dead_port: int) -> None:
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
