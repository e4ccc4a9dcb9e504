"""However far an `up` came before it was killed, the next one reaches the same end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stockhelper_cli import compose, stack
from stockhelper_cli.compose import Project
from stockhelper_cli.converge.images import inputs_digest
from stockhelper_cli.engine.protocol import ExecResult
from stockhelper_cli.labels import MIGRATION_HEADS
from tests.fake_engine import FakeEngine

STACK = """
name: sweep
services:
  db:
    x-stockhelper: {role: database}
    image: postgres
    volumes: [data:/data]
    networks: [net]
    environment: {LEVEL: "${DB_LEVEL:-1}"}
    healthcheck: {test: [CMD, "true"]}
  migrate:
    x-stockhelper: {role: migrate}
    image: app
    networks: [net]
    environment: {LEVEL: "${APP_LEVEL:-1}"}
    depends_on: {db: {condition: service_healthy}}
  app:
    x-stockhelper: {role: app}
    image: app
    networks: [net, other]
    environment: {LEVEL: "${APP_LEVEL:-1}"}
    ports: ["127.0.0.1:8000:8000"]
    healthcheck: {test: [CMD, "true"]}
    depends_on:
      db: {condition: service_healthy, restart: true}
      migrate: {condition: service_completed_successfully}
networks: {net: {labels: {level: "${NET_LEVEL:-1}"}}, other: {}}
volumes: {data: {}}
"""

CHANGES = {
    "a fresh up": {},
    "a changed app": {"APP_LEVEL": "2"},
    "a changed database": {"DB_LEVEL": "2"},
    "a changed network": {"NET_LEVEL": "2"},
    "everything changed": {"APP_LEVEL": "2", "DB_LEVEL": "2", "NET_LEVEL": "2"},
}


class Killed(BaseException):
    """The process is no more: nothing that it would have done is done."""


class Mortal(FakeEngine):
    """An engine whose user is killed after so many changes; whatever it would ask then is not asked."""

    def __init__(self) -> None:
        super().__init__({"postgres": {}, "app": {MIGRATION_HEADS: "1"}})
        self.scripts = lambda name: 0 if "migrate" in name else None
        self.answer = lambda name, command: ExecResult(0, b"1\n", b"")
        self.lives: int | None = None

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        lives = super().__getattribute__("__dict__").get("lives")
        if callable(value) and not name.startswith("_") and lives is not None and len(self.calls) >= lives:
            raise Killed
        return value


def load(folder: Path, **environ: str) -> Project:
    (folder / "compose.yaml").write_text(STACK)
    return compose.load(folder, environ=environ)


def end_state(engine: FakeEngine) -> list[tuple[str, str, tuple[str, ...]]]:
    return sorted(
        (container.name, container.status, tuple(sorted(a.network for a in container.networks)))
        for container in engine.containers([])
    )


def up(project: Project, engine: FakeEngine) -> stack.UpResult:
    return stack.up(project, engine, stack.UpOptions(timeout=5), lambda event: None)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.replace(" ", "-"))
def test_up_after_a_kill_at_any_call_ends_as_if_nothing_had_happened(tmp_path: Path, change: str) -> None:
    def begin() -> Mortal:
        engine = Mortal()
        if CHANGES[change]:
            up(load(tmp_path), engine)
            engine.calls.clear()
        return engine

    project = load(tmp_path, **CHANGES[change])
    whole = begin()
    up(project, whole)
    expected = end_state(whole)
    assert [(name, status) for name, status, _ in expected] == [
        ("sweep-app-1", "running"), ("sweep-db-1", "running"), ("sweep-migrate-1", "exited"),
    ]  # fmt: skip
    for lives in range(len(whole.calls)):
        engine = begin()
        engine.lives = lives
        with pytest.raises(Killed):
            up(project, engine)
        engine.lives = None
        up(project, engine)
        assert end_state(engine) == expected, f"killed after {lives} calls"
        before = list(engine.calls)
        assert not up(project, engine).plan.changes, f"killed after {lives} calls"
        assert engine.calls == before


def test_a_digest_of_inputs_is_of_content_and_not_of_time(tmp_path: Path) -> None:
    from stockhelper_cli.engine.protocol import BuildOptions

    (tmp_path / "a").write_text("1")
    build = BuildOptions(tmp_path, "Dockerfile", "x", args={"K": "v"})
    first = inputs_digest(build, ["a"])
    (tmp_path / "a").write_text("1")
    assert inputs_digest(build, ["a"]) == first
    changes: list[Callable[[], object]] = [
        lambda: (tmp_path / "a").write_text("2"),
        lambda: (tmp_path / "a").chmod(0o755),
    ]
    for change in changes:
        before = inputs_digest(build, ["a"])
        change()
        assert inputs_digest(build, ["a"]) != before
