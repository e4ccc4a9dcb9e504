"""The service as the image starts it: a process of its own, under uvicorn."""

from __future__ import annotations

import json
import os
import re
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

from tests.support import ROOT
from tests.support.leftovers import run_mark
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, request

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
            **run_mark(),
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
