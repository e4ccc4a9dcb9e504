"""Readiness: asking the real thing every few hundredths of a second, never waiting for a health interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Event as Flag
from typing import TYPE_CHECKING, Final, Protocol

from stockhelper_cli.converge.plan import Condition
from stockhelper_cli.converge.reconcile import ROLE_APP, ROLE_DATABASE, ROLE_MIGRATE
from stockhelper_cli.database.psql import Credentials, NotAnswering, QueryFailed, query
from stockhelper_cli.errors import Conflict, EngineError, NotFound, StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Service
    from stockhelper_cli.engine.protocol import Container, Engine

#: Seconds between two questions.
POLL_SECONDS: Final = 0.025
#: How many of its last log lines a failed container's error carries.
LOG_LINES: Final = 50
#: Where the service says whether it is healthy; one half of the contract with `stockhelper_app`.
HEALTH_PATH: Final = "/api/v1/health"
#: A container without a health check counts as started when it has run for this long (seconds).
STEADY_SECONDS: Final = 1.0
#: How long one question may take at most (seconds).
PROBE_SECONDS: Final = 5.0
#: For how long (seconds) one that was restarted, and runs, is looked at for the exit code of its next end.
_ENDING_SECONDS: Final = 1.0
#: How long the database is waited for inside its container before its container is looked at again (seconds). To ask
#: it anew from outside takes the engine longer than the database's own answer, and on a small machine both longer.
_PATIENCE_SECONDS: Final = 0.5


#: What PostgreSQL says, and ends, when it was killed, is started again in the same container, and finds that its former
#: process id is another process's now, such as one's that asks whether it is ready.
_MISTAKEN: Final = 'lock file "postmaster.pid" already exists'
#: How often at most the engine's next start is waited for then.
_MISTAKES: Final = 3


class Cancelled(Exception):
    """The wait was given up because something else failed or the user interrupted."""


class Probe(Protocol):
    """Asks one container whether it is ready."""

    def __call__(self, container: Container, seconds: float) -> str:
        """Return "" if it is ready, else one line on what is missing; `seconds` is how long asking may take."""


@dataclass(frozen=True, slots=True)
class DatabaseProbe:
    """Ready when the owner, with the password, is answered a query on the database over TCP."""

    engine: Engine
    credentials: Credentials

    def __call__(self, container: Container, seconds: float) -> str:
        """Return "" or what psql said. Raises `StockhelperError` where waiting cannot help."""
        try:
            query(self.engine, container.id, self.credentials, "SELECT 1", patience=min(seconds, _PATIENCE_SECONDS))
        except (NotAnswering, QueryFailed) as error:
            return str(error)
        return ""


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Ready when the health path answers 200 on the port where the container's `target` ("8000/tcp") is published."""

    target: str

    def __call__(self, container: Container, seconds: float) -> str:
        """Return "" or the answer's status, or why there was none."""
        for published in container.ports:
            if published.container == self.target:
                return ask_health(published.address, min(PROBE_SECONDS, seconds))
        return f"port {self.target} is not published"


def ask_health(address: str, seconds: float) -> str:
    """Ask the service at an address (host:port) whether it is healthy.

    Returns "", or the answer's status, or why there was none in `seconds`. By the standard library: it is asked every
    few hundredths of a second while it starts, and what a larger client does for each connection, and for its import,
    takes the processor from the service that is waited for.
    """
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(address, timeout=seconds)
    try:
        connection.request("GET", HEALTH_PATH)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"http://{address}{HEALTH_PATH}: {error or type(error).__name__}"
    finally:
        connection.close()
    return "" if 200 <= status < 300 else f"http://{address}{HEALTH_PATH} answers {status}"


@dataclass(frozen=True, slots=True)
class HealthcheckProbe:
    """Ready when the command of the health check succeeds inside the container."""

    engine: Engine
    command: tuple[str, ...]

    def __call__(self, container: Container, seconds: float) -> str:
        """Return "" or the last line that the check printed."""
        result = self.engine.exec(container.id, self.command)
        if result.exit_code == 0:
            return ""
        lines = (result.stdout + result.stderr).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the health check exits with {result.exit_code}"


@dataclass(slots=True)
class SteadyProbe:
    """For a container without a health check: ready when it was seen to run for a moment since the same start.

    Measured by this machine's `clock` alone (seconds): the engine's, which tells the start, may go otherwise.
    """

    clock: Callable[[], float] = time.monotonic
    _started_at: datetime | None = None
    _seen: float = 0.0

    def __call__(self, container: Container, seconds: float) -> str:
        """Return "" or that it has only just started."""
        if self._started_at is None or container.started_at != self._started_at:
            self._started_at, self._seen = container.started_at, self.clock()
        return "" if self.clock() - self._seen >= STEADY_SECONDS else "only just started"


def probe_for(service: Service, engine: Engine, *, local: bool) -> Probe:
    """Return how to ask a service; `local` is whether the engine's published ports are this machine's."""
    if service.role == ROLE_DATABASE:
        return DatabaseProbe(engine, Credentials.of(service.environment))
    targets = [f"{port.target}/tcp" for port in service.ports if port.protocol == "tcp"]
    if service.role == ROLE_APP and local and targets:
        return HttpProbe(targets[0])
    command = check_command(service)
    return HealthcheckProbe(engine, command) if command else SteadyProbe()


def check_command(service: Service) -> tuple[str, ...]:
    """Return the health check of a compose file as a command, empty where there is none (Compose spec, healthcheck)."""
    if service.healthcheck is None or service.healthcheck.disabled:
        return ()
    match service.healthcheck.test:
        case ("CMD", *command):
            return tuple(command)
        case ("CMD-SHELL", script):
            return ("/bin/sh", "-c", script)
        case _:
            return ()


def wait_ready(
    engine: Engine,
    service: Service,
    container_name: str,
    condition: Condition,
    probe: Probe,
    *,
    timeout: float,
    cancelled: Flag,
) -> None:
    """Return when a service's container meets a condition.

    `timeout` is in seconds and does not count for a one-shot's end: its work may take as long as it takes. Raises
    `StockhelperError`, with the last log lines: service.exited or migration.failed as soon as the container is seen
    to have ended, service.unhealthy when the time is over; `Cancelled` when the flag is set.
    """
    deadline = time.monotonic() + timeout
    missing = ""
    first: int | None = None
    restarts = 0
    given_up: float | None = None
    while True:
        container = engine.container(container_name)
        if first is None:
            first = restarts = container.restart_count
        if condition is Condition.COMPLETED:
            if container.status == "exited" and container.exit_code == 0:
                return
        elif container.running:
            try:
                missing = probe(container, max(deadline - time.monotonic(), POLL_SECONDS))
            except (Conflict, NotFound):
                missing = "it stopped while it was asked"
            except EngineError as error:
                if error.code == "engine.lost":
                    raise
                missing = error.cause or error.message
            if not missing:
                return
        if container.restart_count > restarts and given_up is None:
            # It runs again, and of how it ended the engine tells nothing before it does so once more.
            given_up = time.monotonic() + _ENDING_SECONDS
        if container.status in ("exited", "dead", "restarting") or (given_up and time.monotonic() >= given_up):
            if container.restart_count - first >= _MISTAKES or not _is_mistaken(engine, service, container):
                raise _ended(engine, service, container)
            restarts, given_up = container.restart_count, None
        if condition is not Condition.COMPLETED and time.monotonic() >= deadline:
            raise StockhelperError(
                "service.unhealthy",
                f"{service.name} did not get healthy within {timeout:g} s",
                cause=missing or f"its container is {container.status}",
                details=_log(engine, container),
                next=[f"stockhelper logs {service.name}", "stockhelper doctor"],
            )
        if cancelled.wait(POLL_SECONDS):
            raise Cancelled


def _ended(engine: Engine, service: Service, container: Container) -> StockhelperError:
    how = how_it_ended(container)
    if service.role == ROLE_MIGRATE:
        return StockhelperError(
            "migration.failed",
            "the migration failed",
            cause=how,
            details=_log(engine, container),
            next=["stockhelper logs migrate", "stockhelper migrate"],
        )
    return StockhelperError(
        "service.exited",
        f"{service.name} exited before it was ready",
        cause=container.error or how,
        details=_log(engine, container),
        next=[f"stockhelper logs {service.name}"],
    )


def _is_mistaken(engine: Engine, service: Service, container: Container) -> bool:
    """Return whether a database took another process for itself, so that the engine's next start helps."""
    return (
        service.role == ROLE_DATABASE
        and container.status in ("restarting", "running")
        and any(_MISTAKEN in line for line in _log(engine, container))
    )


def how_it_ended(container: Container) -> str:
    """Return on one line how a container's process ended, the last time that it did."""
    if container.running:
        return "it ended and was started again"
    how = f"exit code {container.exit_code}"
    if container.oom_killed:
        return f"out of memory ({how}): raise its memory limit"
    return f"{how}: killed" if container.exit_code == 137 else how


def _log(engine: Engine, container: Container) -> Sequence[str]:
    return engine.logs(container.id, tail=LOG_LINES)
