"""The command in the test's own process, from its first line to its last, on real descriptors of a test's choice.

For tests of what does not depend on how an interpreter starts and ends, which costs each process 0.2 s and more.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO
from unittest.mock import patch

import pytest

from stockhelper_cli.__main__ import main
from tests.cli.calling import Project
from tests.cli.engine import every_file, in_use, made_engine


def run_here(
    project: Project,
    *arguments: str,
    stdout: int | None = None,
    stderr: int | None = None,
    cwd: Path | None = None,
) -> CompletedProcess[str]:
    """Run the command with these streams, or with files in their place; `project.calls` holds what it changed."""
    engine = made_engine()
    engine.context_files = every_file  # type: ignore[method-assign]
    with ExitStack() as opened:
        out, err = (opened.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        nothing = opened.enter_context(Path(os.devnull).open("rb"))
        streams = {0: nothing.fileno(), 1: stdout or out.fileno(), 2: stderr or err.fileno()}
        with (
            in_use(engine, project.root.parent),
            patch.dict(os.environ, project.environment(), clear=True),
            _in(cwd or project.root),
            _handlers_kept(),
            _on(streams),
            patch.multiple(sys, argv=["stockhelper", *arguments]),
        ):
            code = _code()
        project.calls_file.write_text("".join(" ".join(call) + "\n" for call in engine.calls))
        return CompletedProcess(arguments, code, _read(out), _read(err))


def _code() -> int:
    """Run `main` to its end, which is that of a process, and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main()
    # As Python does at the end of a process: what cannot be written then is a fault of its own.
    sys.stdout.flush()
    sys.stderr.flush()
    return int(ended.value.code or 0)


@contextmanager
def _on(streams: Mapping[int, int]) -> Iterator[None]:
    """Put descriptors in the place of this process's own."""
    kept = {number: os.dup(number) for number in streams}
    objects = sys.stdin, sys.stdout, sys.stderr
    try:
        for number, descriptor in streams.items():
            os.dup2(descriptor, number)
        # As Python opens them.
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - closed with the command
            for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = objects
        for number, descriptor in kept.items():
            os.dup2(descriptor, number)
            os.close(descriptor)


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Give this process its signal handlers back: the command ends with none."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
