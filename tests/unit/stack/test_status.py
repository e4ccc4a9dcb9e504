"""What `status` makes of a service that cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stockhelper_cli import compose, stack
from stockhelper_cli.compose import Project
from stockhelper_cli.converge import ready
from stockhelper_cli.engine.protocol import Container, ExecResult, Port
from stockhelper_cli.errors import Conflict, EngineError, StockhelperError
from stockhelper_cli.status import status, urls_of
from tests.support.fake_engine import FakeEngine
from tests.support.waiting import PATIENCE

STACK = """
name: seen
services:
  db:
    x-stockhelper: {role: database}
    image: postgres
    environment: {POSTGRES_USER: owner, POSTGRES_PASSWORD: word}
    healthcheck: {test: [CMD, "true"]}
  other:
    image: app
    healthcheck: {test: [CMD, "true"]}
"""


class Asked(FakeEngine):
    """Remembers which commands ran in its containers, and may refuse them."""

    def __init__(self) -> None:
        super().__init__({"postgres": {}, "app": {}})
        self.commands: list[str] = []
        self.refusal: StockhelperError | None = None
        self.answer = self.hear

    def hear(self, name: str, command: Sequence[str]) -> ExecResult:
        self.commands.append(" ".join(command))
        if self.refusal is not None and "db" in name:
            raise self.refusal
        return ExecResult(0, b"", b"")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "compose.yaml").write_text(STACK)
    return compose.load(tmp_path, environ={})


@pytest.fixture
def engine(project: Project) -> Asked:
    """A stack that is up, of which the engine's own checks have not come round yet."""
    engine = Asked()
    stack.up(project, engine, stack.UpOptions(timeout=PATIENCE), lambda event: None)
    engine.commands.clear()
    return engine


@pytest.mark.parametrize(
    "refusal",
    [
        StockhelperError("db.password_drift", "the database refuses the password"),
        Conflict("engine.conflict", "could not run sh: it is paused"),
        EngineError("engine.timeout", "could not run sh: the engine does not answer"),
    ],
    ids=lambda error: error.code,
)
def test_failed_query_is_shown_in_its_row_beside_the_others(
    project: Project, engine: Asked, refusal: StockhelperError
) -> None:
    """A service that cannot be queried shows the error in its row, and the others are shown as usual."""
    engine.refusal = refusal
    result = status(project, engine)
    database, other = result.services
    assert (database.health, database.ok, database.problem) == ("starting", False, refusal.message)
    assert (other.health, other.ok, other.problem) == ("healthy", True, "")
    assert not result.ok
    assert database.as_json()["problem"] == refusal.message


def test_an_engine_that_is_gone_is_not_taken_for_an_answer(project: Project, engine: Asked) -> None:
    engine.refusal = StockhelperError("engine.lost", "over")
    with pytest.raises(StockhelperError, match="over"):
        status(project, engine)


def test_who_only_looks_does_not_ask_for_the_revision(project: Project, engine: Asked) -> None:
    status(project, engine)
    stack.stop(project, engine, [], lambda event: None)
    stack.start(project, engine, [], PATIENCE, lambda event: None)
    stack.restart(project, engine, [], PATIENCE, lambda event: None)
    stack.down(project, engine, stack.DownOptions(), lambda event: None)
    assert engine.commands
    assert not [command for command in engine.commands if "alembic_version" in command]


@pytest.mark.parametrize(
    ("listening", "urls"),
    [
        (["127.0.0.1"], ["http://127.0.0.1:8000"]),
        (["0.0.0.0"], ["http://127.0.0.1:8000"]),
        (["0.0.0.0", "::"], ["http://127.0.0.1:8000"]),
        (["::"], ["http://[::1]:8000"]),
        (["::1"], ["http://[::1]:8000"]),
        (["192.168.1.2"], ["http://192.168.1.2:8000"]),
    ],
    ids=str,
)
def test_app_url_is_one_that_a_local_browser_opens(
    project: Project, listening: Sequence[str], urls: Sequence[str]
) -> None:
    """The address of the app is a URL that a browser on this machine can open."""
    app = replace(project.services["other"], extensions={"x-stockhelper": {"role": "app"}})
    ports = tuple(Port(address, 8000, "8000/tcp") for address in listening)
    assert urls_of(app, Container("id", "app", "app", "sha256:1", "running", ports=ports)) == urls


def test_who_was_just_seen_to_be_ready_is_not_asked_once_more(project: Project, engine: Asked) -> None:
    result = status(project, engine, ready={"db"})
    assert result.ok
    assert len(engine.commands) == 1
    assert "psql" not in engine.commands[0]


def test_up_ends_with_the_answers_that_it_waited_for(project: Project) -> None:
    engine = Asked()
    result = stack.up(project, engine, stack.UpOptions(timeout=PATIENCE), lambda event: None)
    assert [(service.health, service.ok) for service in result.services] == [("healthy", True)] * 2
    assert len([command for command in engine.commands if "SELECT 1" in command]) == 1


def test_a_service_of_an_inactive_profile_is_shown_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "STEADY_SECONDS", 0.0)
    (tmp_path / "compose.yaml").write_text(STACK + "  extra: {image: app, profiles: [more]}\n")
    engine = Asked()
    active, inactive = (compose.load(tmp_path, environ=environ) for environ in ({"COMPOSE_PROFILES": "more"}, {}))
    stack.up(active, engine, stack.UpOptions(timeout=PATIENCE), lambda event: None)

    assert [(each.name, each.state, each.ok) for each in status(inactive, engine).services][2:] == [
        ("extra", "running", True)
    ]
    (container,) = [container for container in engine.containers([]) if "extra" in container.name]
    engine.stop(container.id)
    assert [each.name for each in status(inactive, engine).services] == ["db", "other"]
