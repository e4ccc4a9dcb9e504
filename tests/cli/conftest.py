"""The command line in this process, with the engine in memory, compared with what a person saw and found good.

`UPDATE_SNAPSHOTS=1 pytest tests/cli` writes the snapshots anew; read the diff before it is committed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockhelper_cli.commands.context import Invocation
from stockhelper_cli.engine.protocol import Engine, ExecResult
from stockhelper_cli.main import run
from tests.cli.calling import Project
from tests.support.environment import without_settings
from tests.support.fake_engine import FakeEngine
from tests.support.project import copy_project
from tests.support.revisions import HEAD

SNAPSHOTS = Path(__file__).parent / "snapshots"


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


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compare a text with the test's snapshot; seconds and ids are masked."""

    def check(text: str) -> None:
        masked = re.sub(r"\d+\.\d+ s\b", "N s", text)
        masked = re.sub(r"\b[0-9a-f]{12}\b", "<id>", masked)
        masked = re.sub(r"/\S*/project/", "<project>/", masked)
        masked = "".join(line.rstrip() + "\n" for line in masked.splitlines())
        name = re.sub(r"\W+", "-", request.node.name).strip("-")
        path = SNAPSHOTS / f"{name}.txt"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            path.write_text(masked)
        assert path.is_file(), f"no snapshot {path.name}: UPDATE_SNAPSHOTS=1 writes it"
        assert masked == path.read_text()

    return check
