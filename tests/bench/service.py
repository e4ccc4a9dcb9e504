"""`make bench-service`: what the service does in a second, beside the same answers written the usual way."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from tests.bench.command import run
from tests.bench.measure import Against, Case, Sample, Way
from tests.bench.stages import HEALTH, HERE
from tests.support import ROOT
from tests.support.alembic import alembic_on
from tests.support.ports import free_port
from tests.support.postgres import Postgres, container
from tests.support.sandbox import TIME_LIMIT
from tests.support.service import SERVICE, running

#: How many callers there are at a time, each with a connection of its own that it keeps.
CALLERS: Final = (1, 4, 16, 64)
#: Seconds of each measurement, and of what comes before all of them.
SECONDS: Final = 3
_WARM_UP: Final = 1
PATHS: Final = {
    "health": HEALTH,
    "watchlist": "/api/v1/watchlist",
    "bars": "/api/v1/stocks/600001.SH/bars?from=2025-11-01&to=2026-10-31",
}
#: Fifty shares, all of them watched, and the bars of two years' weekdays.
_DATA: Final = (
    "INSERT INTO stocks (symbol, name, exchange, listing_date)"
    " SELECT 600000 + n || '.SH', 'Share ' || n, 'SH', '2001-08-27' FROM generate_series(1, 50) AS n",
    "INSERT INTO watchlist (symbol) SELECT symbol FROM stocks",
    "INSERT INTO daily_bars SELECT symbol, day::date, price, price * 1.02, price * 0.97, price * 1.01,"
    " 100 * n, price * 100 * n, 1 + n % 7 * 0.01"
    " FROM stocks, generate_series('2024-11-01'::date, '2026-10-31', '1 day') WITH ORDINALITY AS days(day, n),"
    " LATERAL (SELECT round(10 + abs(hashtext(symbol || n)) % 90000 / 1000.0, 2)) AS of(price)"
    " WHERE extract(isodow FROM day) < 6",
    "ANALYZE",
)


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs: where it answers, and its process."""

    address: str
    process: psutil.Process

    def spent(self) -> float:
        """Return how long it has had a processor so far (seconds)."""
        times = self.process.cpu_times()
        return times.user + times.system


@dataclass(frozen=True, slots=True)
class Served:
    """The two of them."""

    ours: Service
    theirs: Service


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Start both services, on the same core and the same database; what they answer must be the same."""
    with ExitStack() as started:
        server = started.enter_context(container())
        alembic = started.enter_context(alembic_on(server))
        alembic.run("upgrade", "head")
        for statement in _DATA:
            server.query(statement)
        ours = started.enter_context(own(alembic.application, folder))
        theirs = started.enter_context(usual(alembic.application, folder))
        for path in PATHS.values():
            assert answer(ours.address, path) == answer(theirs.address, path), path
            for service in (ours, theirs):
                load(service, path, CALLERS[-1], _WARM_UP)
        yield Served(ours, theirs)


def cores() -> tuple[int, int]:
    """Return the core that services are to run on, and the one of their callers; the database takes what it gets."""
    first, *_, last = sorted(os.sched_getaffinity(0))
    return first, last


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Let what the block starts run on this core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def own(database: Postgres, folder: Path) -> Iterator[Service]:
    """Start our service as the image does."""
    environment = {**database.environment, "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")}
    with (folder / "ours.log").open("w") as log, ExitStack() as started:
        with on_core(cores()[0]):
            process, address = started.enter_context(running(database.port, log, "", **environment))
        wait(process, address)
        yield Service(address, psutil.Process(process.pid))


@contextmanager
def usual(database: Postgres, folder: Path) -> Iterator[Service]:
    """Start the other."""
    port = free_port()
    command = ["uvicorn", "tests.bench.rival:api", "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{SERVICE}", **database.environment}
    with (folder / "theirs.log").open("w") as log:
        with on_core(cores()[0]):
            process = subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            wait(process, address)
            yield Service(address, psutil.Process(process.pid))
        finally:
            process.kill()
            process.wait()


def wait(process: subprocess.Popen[Any], address: str) -> None:
    """Wait until a service answers."""
    deadline = time.monotonic() + TIME_LIMIT
    while True:
        try:
            httpx.get(address, trust_env=False)
        except httpx.TransportError:
            assert process.poll() is None, "the service has ended, see its log"
            assert time.monotonic() < deadline, "the service does not answer"
            time.sleep(0.05)
        else:
            return


def answer(address: str, path: str) -> Any:
    """Return what is answered, numbers exact."""
    got = httpx.get(address + path, trust_env=False, timeout=TIME_LIMIT)
    assert got.status_code == 200, got.text
    return json.loads(got.content, parse_float=Decimal)


def load(service: Service, path: str, callers: int, seconds: int) -> Sample:
    """Let so many callers ask for so long; return what came of it.

    The requests in a second, within how long 99 of 100 came back, and how long each had a processor in the service,
    which tells the two apart on a busy machine, too.
    """
    command = [
        "wrk",
        "-t1",
        f"-c{callers}",
        f"-d{seconds}s",
        "--timeout",
        "30s",
        "-s",
        str(HERE / "load.lua"),
        service.address + path,
    ]
    before = service.spent()
    with on_core(cores()[1]):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIME_LIMIT)
    counted = json.loads(done.stdout.splitlines()[-1])
    assert counted["requests"] > 0, done.stdout
    assert counted["failed"] == 0, done.stdout
    return {
        f"{callers} callers, requests/s": counted["requests"] / counted["duration"] * 1e6,
        f"{callers} callers, p99": counted["p99"] / 1e6,
        f"{callers} callers, processor": (service.spent() - before) / counted["requests"],
    }


def asks(path: str, whom: Callable[[Served], Service]) -> Callable[[Served], Sample]:
    """Return what lets more and more callers ask for a path."""

    def once(on: Served) -> Sample:
        sample: dict[str, float] = {}
        for callers in CALLERS:
            sample |= load(whom(on), path, callers, SECONDS)
        return sample

    return once


def case(name: str, work: str, times: float, bound: str = "") -> Case:
    """Return the case of a path, on which ours is to be so many times as fast; `bound` is what bounds it."""
    path = PATHS[name]
    aims: dict[str, float | None] = {}
    for callers in CALLERS:
        aims[f"{callers} callers, requests/s"] = times
        aims |= dict.fromkeys((f"{callers} callers, p99", f"{callers} callers, processor"), round(1 / times, 2))
    theirs = Way("FastAPI, SQLAlchemy's ORM, asyncpg", asks(path, lambda on: on.theirs))
    bounds = dict.fromkeys(aims, bound)
    return Case(name, work, served, Way("stockhelper", asks(path, lambda on: on.ours)), [Against(theirs, aims, bounds)])


#: What bounds health, for one caller at a time.
ASKING: Final = "the question to the database, 0.5 of its 0.65 ms (SQLAlchemy's pool, psycopg); more callers share one"
CASES: Final = (
    case("health", "health", 1.2, ASKING),
    case("watchlist", "a watchlist of 50", 1.5),
    case("bars", "a year of bars", 1.5),
)


def main() -> None:
    """Measure the service."""
    program = "python -m tests.bench.service"
    parser = argparse.ArgumentParser(program, description="Measure the service beside the same written as usual.")
    if shutil.which("wrk") is None:
        parser.exit(4, "error: wrk is missing, which asks the services\n  next: sudo apt-get install wrk\n")
    run(parser, CASES)


if __name__ == "__main__":
    main()
