"""The command line in this process, with the engine in memory, compared with what a person saw and found good."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockhelper_cli.commands.context import Invocation
from stockhelper_cli.engine.protocol import Engine, ExecResult
from stockhelper_cli.machine.init_env import set_value
from stockhelper_cli.main import run
from tests.cli.calling import Project
from tests.support.fake_engine import FakeEngine
from tests.support.project import copy_project
from tests.support.revisions import HEAD


@dataclass(frozen=True)
class Answer:
    """What a command line gave."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class World:
    """A project in a folder, an engine in memory, and the command line on both."""

    root: Path
    engine: FakeEngine
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> Answer:
        """Run a command line."""
        code = run(["-C", str(self.root), *arguments])
        said = self.capture.readouterr()
        return Answer(int(code), said.out, said.err)

    def set(self, key: str, value: str) -> None:
        """Set a key of the project's .env."""
        set_value(self.root / ".env", key, value)


def answering(name: str, command: Sequence[str]) -> ExecResult:
    """Answer as a migrated database on a large disk and a healthy app do."""
    asked = " ".join(command)
    if "version_num" in asked:
        return ExecResult(0, f"{HEAD}\n".encode(), b"")
    if "df -Pk" in asked:
        return ExecResult(
            0, b"Filesystem 1024-blocks Used Available Capacity Mounted on\n/ 9000000 1 8000000 1% /\n", b""
        )
    return ExecResult(0, b"", b"")


def made_engine() -> FakeEngine:
    """Return an engine that has the base images, and on which the stack comes up well."""
    engine = FakeEngine({"postgres:15-alpine": {}, "python:3.13-slim": {}})
    # Ahead of ours: what it has started runs for 0 s, however long a test takes.
    engine.clock = lambda: datetime.now(UTC) + timedelta(days=1)
    engine.answer = answering
    engine.scripts = lambda name: 0 if "migrate" in name else None
    return engine


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what would reach into the project, and any terminal's glamour."""
    for name in list(os.environ):
        if name.startswith(("COMPOSE_", "POSTGRES_", "APP_", "DOCKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CI", "true")


@pytest.fixture
def project(plain_environment: None, tmp_path: Path) -> Project:
    """A project for the command as a process of its own."""
    copy_project(tmp_path / "project")
    return Project(tmp_path / "project", tmp_path / "calls")


@pytest.fixture
def world(
    plain_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> World:
    """Make a project whose images are there and whose stack is not up."""
    root = tmp_path / "project"
    copy_project(root)
    # The lock is the engine's and the project's: tests of other folders must not wait for this one.
    monkeypatch.setattr("stockhelper_cli.lock._SHARED_FOLDER", tmp_path)
    engine = made_engine()

    @contextmanager
    def connected(invocation: Invocation) -> Iterator[Engine]:
        yield engine

    monkeypatch.setattr(Invocation, "engine", connected)
    return World(root, engine, capsys)
