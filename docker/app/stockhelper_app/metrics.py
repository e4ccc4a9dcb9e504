"""Metrics in Prometheus' form, on a port of their own that is published only where the settings say so.

Each worker counts into files of its own (PROMETHEUS_MULTIPROC_DIR), and each listens on the same port: whichever the
kernel picks adds up the files of all. What the database and the schedule say is asked when somebody looks.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn
from sqlalchemy import event
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stockhelper_app import queries
from stockhelper_app.db import Database, Unavailable
from stockhelper_app.protocol import BoundedHttp

logger = structlog.get_logger(__name__)

_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"


def _prepare() -> None:
    """Make the folder before prometheus_client is imported, which looks for it then; do without where it cannot be."""
    if _FOLDER in os.environ:
        try:
            Path(os.environ[_FOLDER]).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            del os.environ[_FOLDER]
            logger.warning("metrics are each worker's own", error=str(error))


_prepare()

# After _prepare, see there.
from prometheus_client import (  # noqa: E402
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: E402
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead  # noqa: E402

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from stockhelper_app.scheduler import Schedule

REQUESTS = Counter("stockhelper_http_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "stockhelper_http_request_duration_seconds",
    "How long requests took, from their first byte here to the answer's last.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_FLIGHT = Gauge("stockhelper_http_requests_in_flight", "Requests under way.", multiprocess_mode="livesum")
POOL_SIZE = Gauge("stockhelper_db_pool_size", "Connections that may be open.", multiprocess_mode="livesum")
POOL_USED = Gauge("stockhelper_db_pool_in_use", "Connections at work.", multiprocess_mode="livesum")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class RequestMetrics:
    """Middleware: counts each request by the path of its route, never by that of its address, of which there is no end.

    It stands around everything, so that refusals count, too. `route_of` maps an endpoint to its path.
    """

    def __init__(self, app: ASGIApp, route_of: Callable[[Any], str | None]) -> None:
        self.app, self._route_of = app, route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count it at its end."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # What breaks before it has answered is cut off by the server.
        status = 500
        began = time.perf_counter()

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        IN_FLIGHT.inc()
        try:
            await self.app(scope, receive, observe)
        finally:
            IN_FLIGHT.dec()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = self._route_of(scope.get("endpoint")) or "none"
            REQUESTS.labels(method, route, str(status)).inc()
            SECONDS.labels(method, route).observe(time.perf_counter() - began)


def watch_pool(database: Database) -> None:
    """Follow how many connections of a pool are at work."""
    pool = database.engine.pool
    POOL_SIZE.set(pool.size())  # type: ignore[attr-defined]
    POOL_USED.set(0)
    sync_engine = database.engine.sync_engine
    event.listen(sync_engine, "checkout", lambda *_: POOL_USED.set(pool.checkedout()))  # type: ignore[attr-defined]
    # One is given back after the pool has told of it.
    event.listen(sync_engine, "checkin", lambda *_: POOL_USED.set(max(pool.checkedout() - 1, 0)))  # type: ignore[attr-defined]


class _Snapshot:
    """What the database and the schedule said a moment ago, as a collector."""

    def __init__(self, metrics: "list[Metric]") -> None:
        self._metrics = metrics

    def collect(self) -> "Iterator[Metric]":
        yield from self._metrics


class MetricsServer:
    """The port of the metrics. It is no reason not to start: what goes wrong with it is logged."""

    def __init__(self, port: int, database: Database, schedule: "Schedule", *, scheduled: bool) -> None:
        self._port, self._database, self._schedule, self._scheduled = port, database, schedule, scheduled
        self._server: _Quiet | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen, on every address of the container; the compose file decides what is published."""
        try:
            listener = socket.create_server(("0.0.0.0", self._port), reuse_port=True, backlog=16)
        except OSError as error:
            logger.error("no metrics", port=self._port, error=str(error))
            return
        app = Starlette(routes=[Route("/metrics", self._answer)])
        config = uvicorn.Config(
            app,
            http=BoundedHttp,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Quiet(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task

    async def _answer(self, request: Request) -> Response:
        metrics = await self._asked()
        body = await asyncio.to_thread(_text, metrics)
        return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _asked(self) -> "list[Metric]":
        up = GaugeMetricFamily("stockhelper_database_up", "Whether the database answers.")
        enabled = GaugeMetricFamily("stockhelper_scheduler_enabled", "Whether bars are fetched on a schedule.")
        enabled.add_metric([], self._scheduled)
        found: list[Metric] = [up, enabled]
        if (when := self._schedule.next_run()) is not None:
            name = "stockhelper_scheduler_next_run_timestamp_seconds"
            found.append(GaugeMetricFamily(name, "When bars are fetched next.", value=when.timestamp()))
        try:
            ((synced, last_day, rows, *outcomes),) = await self._database.fetch(queries.SYNC_STATE)
        except Unavailable as error:
            logger.warning("database not available", error=str(error))
            up.add_metric([], 0)
            return found
        up.add_metric([], 1)
        runs = GaugeMetricFamily("stockhelper_sync_runs", "Runs that brought bars in.", labels=["outcome"])
        for outcome, count in zip(queries.OUTCOMES, outcomes, strict=True):
            runs.add_metric([outcome], count)
        found += [runs, CounterMetricFamily("stockhelper_sync_rows", "Bars that runs brought in.", value=rows)]
        for name, text, value in (
            ("stockhelper_sync_last_success_timestamp_seconds", "When a sync last ended well.", synced),
            ("stockhelper_sync_last_day_timestamp_seconds", "The last trading day there are bars of.", last_day),
        ):
            if value is not None:
                found.append(GaugeMetricFamily(name, text, value=float(value)))
        if synced is not None:
            name, text = "stockhelper_sync_age_seconds", "How long ago a sync last ended well."
            found.append(GaugeMetricFamily(name, text, value=max(0.0, time.time() - float(synced))))
        return found


class _Quiet(uvicorn.Server):
    """A second server in one process: signals are the first one's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _text(asked: "list[Metric]") -> bytes:
    """Return all metrics as text: the workers' counts, and what was asked."""
    registry = REGISTRY
    if folder := os.environ.get(_FOLDER):
        registry = CollectorRegistry()
        _forget_the_dead(Path(folder))
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    at_once = CollectorRegistry()
    at_once.register(_Snapshot(asked))
    return generate_latest(registry) + generate_latest(at_once)


def _forget_the_dead(folder: Path) -> None:
    """Drop the gauges of workers that are no more; nobody else sees one end."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path(f"/proc/{pid}").exists():
            with suppress(FileNotFoundError):
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
