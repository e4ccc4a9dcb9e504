"""A small stack on the engine in memory: brought up, killed half-way, and planned for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from stockhelper_cli import compose, stack
from stockhelper_cli.compose import Project
from stockhelper_cli.converge import ready
from stockhelper_cli.converge.plan import Plan
from stockhelper_cli.converge.reconcile import UpRules, reconcile
from stockhelper_cli.converge.state import ObservedState, observe
from stockhelper_cli.engine.protocol import Container, Engine, ExecResult
from stockhelper_cli.labels import MIGRATION_HEADS
from tests.support.fake_engine import FakeEngine
from tests.support.waiting import PATIENCE

STACK = """
name: sweep
services:
  db:
    x-stockhelper: {role: database}
    image: postgres
    volumes: [data:/data, /scratch]
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
    image: ${APP_IMAGE:-app}
    networks: [net, other]
    environment: {LEVEL: "${APP_LEVEL:-1}", OWN: "${APP_OWN:-1}"}
    ports: ["127.0.0.1:8000:8000"]
    healthcheck: {test: [CMD, "true"]}
    depends_on:
      db: {condition: service_healthy, restart: true}
      migrate: {condition: service_completed_successfully}
networks: {net: {labels: {level: "${NET_LEVEL:-1}"}}, other: {labels: {level: "${OTHER_LEVEL:-1}"}}}
volumes: {data: {}}
"""
#: A service that the stack does not have; what it leaves behind there is an orphan.
FORMER = "  former: {image: app, networks: [other]}\n"


_OPTIONS = stack.UpOptions(timeout=PATIENCE)
_RULES = UpRules()


class Killed(BaseException):
    """The process is no more: nothing that it would have done is done."""


class Mortal(FakeEngine):
    """An engine whose user is killed after so many changes; whatever it would ask then is not asked."""

    def __init__(self) -> None:
        super().__init__({"postgres": {}, "app": {MIGRATION_HEADS: "1"}, "app:2": {MIGRATION_HEADS: "1"}})
        self.scripts = lambda name: 0 if "migrate" in name else None
        self.answer = lambda name, command: ExecResult(0, b"1\n", b"")
        self.lives: int | None = None

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        lives = super().__getattribute__("__dict__").get("lives")
        # Only what is asked from outside: a call that was recorded is carried out to its end.
        if name in vars(Engine) and lives is not None and len(self.calls) >= lives:
            raise Killed
        return value


@dataclass
class World:
    """The stack in a folder, and the engine that it is on."""

    folder: Path
    text: str = STACK
    engine: Mortal = field(default_factory=Mortal)

    def load(self, **environ: str) -> Project:
        """Return the project with these variables."""
        (self.folder / "compose.yaml").write_text(self.text)
        return compose.load(self.folder, environ=environ)

    def up(self, options: stack.UpOptions = _OPTIONS, /, **environ: str) -> stack.UpResult:
        """Bring the stack up."""
        return stack.up(self.load(**environ), self.engine, options, lambda event: None)

    def leave_orphan(self) -> None:
        """Bring the stack up with a further service, that it does not have from then on."""
        text = self.text
        self.text = text.replace("networks: {net:", FORMER + "networks: {net:")
        # It has no health check, and so would have to run for a second.
        with patch.object(ready, "STEADY_SECONDS", 0.0):
            self.up()
        self.text = text

    def kill(self, call: str, name: str, **environ: str) -> None:
        """Bring the stack up and be killed just before this call, of which the object's name ends like this."""

        def fatal(this: str, resource: str) -> None:
            if this == call and resource.endswith(name):
                self.engine.lives = 0
                raise Killed

        self.engine.intercept = fatal
        try:
            self.up(**environ)
        except Killed:
            pass
        else:
            raise AssertionError(f"there was no {call} of {name}")
        finally:
            self.engine.lives = None
            self.engine.intercept = lambda call, name: None

    def observe(self, **environ: str) -> ObservedState:
        """Return what is there."""
        return observe(self.load(**environ), self.engine, revisions=True)

    def plan(self, rules: UpRules = _RULES, /, **environ: str) -> Plan:
        """Return what an `up` would do."""
        return reconcile(self.load(**environ), self.observe(**environ), rules)

    def container(self, service: str) -> Container:
        """Return the container that has a service's name."""
        return self.engine.container(f"sweep-{service}-1")
