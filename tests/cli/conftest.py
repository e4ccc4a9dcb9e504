"""The command line in this process, with the engine in memory, compared with what a person saw and found good."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stockhelper_cli.machine.init_env import set_value
from stockhelper_cli.main import run
from tests.cli.calling import Project
from tests.cli.engine import in_use, made_engine
from tests.support.environment import without_settings
from tests.support.fake_engine import FakeEngine
from tests.support.project import copy_project


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


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what would reach into the project, and any terminal's glamour."""
    kept = without_settings(os.environ)
    for name in list(os.environ):
        if name not in kept or name.startswith("DOCKER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CI", "true")


@pytest.fixture
def project(plain_environment: None, tmp_path: Path) -> Project:
    """A project for the command as a process of its own."""
    copy_project(tmp_path / "project")
    return Project(tmp_path / "project", tmp_path / "calls")


@pytest.fixture
def world(plain_environment: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    """Make a project whose images are there and whose stack is not up."""
    root = tmp_path / "project"
    copy_project(root)
    engine = made_engine()
    # The lock is the engine's and the project's: tests of other folders must not wait for this one.
    with in_use(engine, tmp_path):
        yield World(root, engine, capsys)
