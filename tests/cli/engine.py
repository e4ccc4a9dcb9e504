"""An engine in memory, on which the stack comes up well.

Without pytest, which a command in a process of its own has no use for and would import each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stockhelper_cli import lock
from stockhelper_cli.commands.context import Invocation
from stockhelper_cli.engine.protocol import BuildOptions, Engine, ExecResult
from tests.support.fake_engine import FakeEngine
from tests.support.revisions import HEAD


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


@contextmanager
def in_use(engine: FakeEngine, folder: Path) -> Iterator[None]:
    """Let the commands of this process use an engine, and put their locks into a folder where nobody else's are."""

    @contextmanager
    def connected(invocation: Invocation) -> Iterator[Engine]:
        yield engine

    replaced: list[tuple[Any, str, object]] = [(Invocation, "engine", connected), (lock, "_SHARED_FOLDER", folder)]
    before = [getattr(owner, name) for owner, name, _ in replaced]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(replaced, before, strict=True):
            setattr(owner, name, value)


def every_file(options: BuildOptions) -> list[str]:
    """Return what would be built from, without a .dockerignore: what reads that is the SDK, whose import takes long."""
    files = (path for path in options.context.rglob("*") if path.is_file())
    return sorted(path.relative_to(options.context).as_posix() for path in files)
