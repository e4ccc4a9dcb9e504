"""The command line in the test's own process: a tenth of the processor time of a fresh one, and checked for leftovers.

A warm process can hide a bug, and a command that shares the test's process can leave something in it. So each run is
checked for what it left behind, and `tests/e2e/test_installed.py` runs every verb by the installed program.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from unittest.mock import patch

from stockhelper_cli.main import run
from tests.support.waiting import PATIENCE


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What a process has that a command might leave changed; each is a set, of which a command may add nothing."""

    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[str, str]]
    children: frozenset[str]
    handlers: frozenset[tuple[int, object]]
    variables: frozenset[tuple[str, str]]
    folder: frozenset[str]

    @classmethod
    def now(cls) -> _Surroundings:
        return cls(
            threads=frozenset(threading.enumerate()),
            descriptors=frozenset(_descriptors()),
            children=frozenset(_children()),
            handlers=frozenset((number, signal.getsignal(number)) for number in signal.valid_signals()),
            variables=frozenset(os.environ.items()),
            folder=frozenset([str(Path.cwd())]),
        )

    def left(self, before: _Surroundings) -> dict[str, list[object]]:
        """Return what is here that was not before, by kind."""
        added = {field.name: getattr(self, field.name) - getattr(before, field.name) for field in fields(self)}
        return {name: sorted(added[name], key=repr) for name in added if added[name]}


def _descriptors() -> Iterator[tuple[str, str]]:
    for entry in os.scandir("/proc/self/fd"):
        try:
            target = str(Path(entry.path).readlink())
        except FileNotFoundError:  # that of the folder itself, or another thread's
            continue
        if target != f"/proc/{os.getpid()}/fd":
            yield entry.name, target


def _children() -> Iterator[str]:
    for thread in os.scandir("/proc/self/task"):
        with suppress(FileNotFoundError):  # it has just ended
            yield from Path(thread.path, "children").read_text().split()


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if what runs in the block leaves a thread, descriptor, child, signal handler, variable or folder changed."""
    before = _Surroundings.now()
    yield
    deadline = time.monotonic() + PATIENCE
    while left := _Surroundings.now().left(before):
        assert time.monotonic() < deadline, f"a command left in its process: {left}"
        time.sleep(0.01)
        gc.collect()


@contextmanager
def own_surroundings(
    folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Run the block in a folder, with this environment alone and nothing to read; yield its stdout and stderr.

    The block may leave nothing in the process.
    """
    assert threading.current_thread() is threading.main_thread(), "commands side by side need processes of their own"
    out, err, typed = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(3))
    before = Path.cwd()
    os.chdir(folder)
    try:
        with (
            patch.dict(os.environ, environment, clear=True),
            patch.multiple(sys, stdin=typed, stdout=out, stderr=err),
            nothing_left(),
        ):
            yield out, err
    finally:
        os.chdir(before)


def run_in_process(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Run a command line in a folder and with this environment alone, without a terminal and with nothing to read.

    Return its exit code, and what it wrote to stdout and stderr.
    """
    with own_surroundings(folder, environment) as (out, err):
        code = run(arguments)
    return int(code), written(out), written(err)


def written(stream: io.TextIOWrapper) -> str:
    """Return all that was written to a stream."""
    stream.flush()
    stream.seek(0)
    return stream.read()
