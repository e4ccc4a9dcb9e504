"""Metrics in Prometheus' form, on a port of their own that is published only where the settings say so.

Each worker counts into files of its own (PROMETHEUS_MULTIPROC_DIR), and each listens on the same port: whichever the
kernel picks adds up the files of all. What the database and the schedule say is asked when somebody looks.
"""

import asyncio
import os
import shutil
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
from stockhelper_app.providers import name_of
from stockhelper_app.settings import Settings

logger = structlog.get_logger(__name__)

_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
#: Seconds.
_DAY: Final = 86_400


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

    def __init__(self, settings: Settings, database: Database, schedule: "Schedule") -> None:
        self._settings, self._database, self._schedule = settings, database, schedule
        self._server: _Quiet | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen, on every address of the container; the compose file decides what is published."""
        port = self._settings.metrics_port
        if port is None:
            return
        try:
            listener = socket.create_server(("0.0.0.0", port), reuse_port=True, backlog=16)
        except OSError as error:
            logger.error("no metrics", port=port, error=str(error))
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
        found: list[Metric] = [up, *self._known()]
        try:
            row = (await self._database.fetch(queries.STATE))[0]
        except Unavailable as error:
            logger.warning("database not available", error=str(error))
            up.add_metric([], 0)
            return found
        up.add_metric([], 1)
        synced, failures, begun, last_day, backed_up, rows, *outcomes = row
        runs = GaugeMetricFamily("stockhelper_sync_runs", "Runs that brought bars in.", labels=["outcome"])
        for outcome, count in zip(queries.OUTCOMES, outcomes, strict=True):
            runs.add_metric([outcome], count)
        found += [runs, CounterMetricFamily("stockhelper_sync_rows", "Bars that runs brought in.", value=rows)]
        found += _gauges(
            ("stockhelper_sync_failures", "Syncs that did not end well since one did.", failures),
            ("stockhelper_sync_last_success_timestamp_seconds", "When a sync last ended well.", synced),
            ("stockhelper_sync_last_day_timestamp_seconds", "The last trading day there are bars of.", last_day),
            ("stockhelper_data_since_timestamp_seconds", "When bars were first brought in.", begun),
            ("stockhelper_backup_timestamp_seconds", "When the newest verified backup was made.", backed_up),
        )
        if synced is not None:
            age = max(0.0, time.time() - float(synced))
            found += _gauges(("stockhelper_sync_age_seconds", "How long ago a sync last ended well.", age))
        return found

    def _known(self) -> "list[Metric]":
        """Return what there is to say without the database."""
        settings, next_run = self._settings, self._schedule.next_run()
        when = next_run and next_run.timestamp()
        provider = GaugeMetricFamily("stockhelper_sync_provider", "Where bars are fetched from.", labels=["provider"])
        provider.add_metric([name_of(settings)], 1)
        # The root of a container is where the engine keeps its data, and with it volumes that are nowhere else.
        disk = shutil.disk_usage("/")
        return [
            provider,
            *_gauges(
                ("stockhelper_scheduler_enabled", "Whether bars are fetched by schedule.", settings.scheduler_enabled),
                ("stockhelper_scheduler_next_run_timestamp_seconds", "When bars are fetched next.", when),
                ("stockhelper_backup_max_age_seconds", "How old a backup may be.", settings.backup_max_age * _DAY),
                ("stockhelper_disk_size_bytes", "The disk that the engine keeps its data on.", disk.total),
                ("stockhelper_disk_free_bytes", "How much of it is free.", disk.free),
            ),
        ]


def _gauges(*told: tuple[str, str, Any]) -> "list[Metric]":
    """Return a gauge for each name, text and value; none for what is not known."""
    return [GaugeMetricFamily(name, text, value=float(value)) for name, text, value in told if value is not None]


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
