"""When a container counts as ready, and for how long it is waited for."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Flag

import pytest

from stockhelper_cli import compose
from stockhelper_cli.compose import Service
from stockhelper_cli.converge import ready
from stockhelper_cli.converge.plan import Condition
from stockhelper_cli.converge.ready import STEADY_SECONDS, HttpProbe, Probe, SteadyProbe, wait_ready
from stockhelper_cli.engine.protocol import Container
from stockhelper_cli.errors import EngineError, StockhelperError
from tests.support.fake_engine import FakeEngine
from tests.support.waiting import PATIENCE


@pytest.fixture
def service(tmp_path: Path) -> Service:
    (tmp_path / "compose.yaml").write_text("services: {app: {image: app, x-stockhelper: {role: app}}}")
    return compose.load(tmp_path, environ={}).services["app"]


def running(**body: object) -> FakeEngine:
    engine = FakeEngine({"app": {}})
    engine.create_container("app", {"Image": "app", **body})
    engine.start("app")
    return engine


def wait(engine: FakeEngine, service: Service, probe: Probe, timeout: float) -> None:
    wait_ready(engine, service, "app", Condition.HEALTHY, probe, timeout=timeout, cancelled=Flag())


def test_engine_error_without_a_cause_is_not_ready(service: Service) -> None:
    """An error of the engine does not count as ready, even without a cause."""

    class Failing:
        def __call__(self, container: Container, seconds: float) -> str:
            raise EngineError("engine.refused", "could not run true in app")

    with pytest.raises(StockhelperError) as failure:
        wait(running(), service, Failing(), 0.05)
    assert (failure.value.code, failure.value.cause) == ("service.unhealthy", "could not run true in app")


@pytest.mark.parametrize("skew", [-86400, 0, 86400], ids=lambda skew: f"{skew}s")
def test_container_without_check_is_steady_by_our_clock(skew: int) -> None:
    """A container without a health check becomes steady by our clock, not by that of the engine."""
    now = 0.0
    probe = SteadyProbe(clock=lambda: now)
    engine = FakeEngine({"app": {}})
    engine.clock = lambda: datetime.now(UTC) + timedelta(seconds=skew)
    engine.create_container("app", {"Image": "app"})
    engine.start("app")

    assert probe(engine.container("app"), 1) != ""
    now = STEADY_SECONDS - 0.01
    assert probe(engine.container("app"), 1) != ""
    now = STEADY_SECONDS
    assert probe(engine.container("app"), 1) == ""

    engine.stop("app")
    engine.start("app")
    assert probe(engine.container("app"), 1) != "", "it was started anew meanwhile"


def test_app_that_never_answers_costs_only_the_timeout(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that accepts the request and never answers costs no more than the timeout."""
    monkeypatch.setattr(ready, "PROBE_SECONDS", 10 * PATIENCE)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        engine = running(HostConfig={"PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}})
        began = time.monotonic()
        with pytest.raises(StockhelperError, match="did not get healthy"):
            wait(engine, service, HttpProbe("8000/tcp"), 0.3)
    assert time.monotonic() - began < PATIENCE


def test_unnoticed_restart_reports_the_next_exit_code(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that restarts between two checks is reported with the exit code of its next end."""
    monkeypatch.setattr(ready, "_ENDING_SECONDS", PATIENCE)
    engine = running()

    def asked(container: Container, seconds: float) -> str:
        """Let it be restarted between two looks, and end once more after a third."""
        seen = container.restart_count
        ends = {"status": "restarting", "exit_code": 3} if seen else {}
        engine.change("app", restart_count=seen + 1, **ends)
        return "not yet"

    with pytest.raises(StockhelperError) as failure:
        wait(engine, service, asked, 60)
    assert (failure.value.code, failure.value.cause) == ("service.exited", "exit code 3")


def test_restarted_container_that_is_not_ready_fails_at_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that restarted and is not ready fails without waiting for the timeout."""
    monkeypatch.setattr(ready, "_ENDING_SECONDS", 0.1)
    engine = running()

    def asked(container: Container, seconds: float) -> str:
        engine.change("app", restart_count=1)
        return "not yet"

    with pytest.raises(StockhelperError) as failure:
        wait(engine, service, asked, 60)
    assert (failure.value.code, failure.value.cause) == ("service.exited", "it ended and was started again")


class Restarting(FakeEngine):
    """An engine that starts a container again after one look at its end."""

    def container(self, name_or_id: str) -> Container:
        found = super().container(name_or_id)
        if found.status == "restarting":
            self.change(found.id, status="running")
        return found


@pytest.mark.parametrize(("mistakes", "gets_ready"), [(1, True), (2, True), (3, False)])
def test_database_with_stale_lock_file_may_restart_twice(tmp_path: Path, mistakes: int, *, gets_ready: bool) -> None:
    """A database that takes another process for its own, by the id in its lock file, may restart twice."""
    (tmp_path / "compose.yaml").write_text("services: {app: {image: app, x-stockhelper: {role: database}}}")
    database = compose.load(tmp_path, environ={}).services["app"]
    engine = Restarting({"app": {}})
    engine.create_container("app", {"Image": "app"})
    engine.start("app")
    starts = 0

    def asked(container: Container, seconds: float) -> str:
        nonlocal starts
        if starts == mistakes:
            return ""
        starts += 1
        engine.say("app", 'FATAL:  lock file "postmaster.pid" already exists', 2)
        engine.change("app", status="restarting", restart_count=starts)
        return "it stopped"

    if gets_ready:
        wait(engine, database, asked, 60)
    else:
        with pytest.raises(StockhelperError, match="exited before it was ready"):
            wait(engine, database, asked, 60)
