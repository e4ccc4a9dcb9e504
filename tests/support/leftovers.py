"""What a run of the tests has left behind on this machine: containers, networks, volumes and processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

import psutil

from stockhelper_cli.engine.endpoints import find
from stockhelper_cli.errors import StockhelperError
from tests.support.waiting import eventually

#: The variable by which the processes of a run are known: all of them inherit it, whoever adopts them.
RUN_VARIABLE: Final = "STOCKHELPER_TEST_RUN"
#: Seconds until what was told to go must have gone.
_GOING_SECONDS: Final = 10.0


def mark_run() -> None:
    """Mark this process's children as those of one run, unless it is itself part of one."""
    os.environ.setdefault(RUN_VARIABLE, str(os.getpid()))


def run_mark() -> Mapping[str, str]:
    """Return the variable for a process that inherits nothing else."""
    return {RUN_VARIABLE: os.environ[RUN_VARIABLE]}


def on_engine() -> frozenset[str] | None:
    """Return what the engine holds, as `kind name`; None without an engine."""
    try:
        find(os.environ)
    except StockhelperError:
        return None
    from tests.support.sandbox import client  # the SDK, which a run without an engine has no use for

    api = client().api
    containers = [f"container {row['Names'][0].strip('/')}" for row in api.containers(all=True)]
    networks = [f"network {row['Name']}" for row in api.networks()]
    volumes = [f"volume {row['Name']}" for row in api.volumes()["Volumes"] or ()]
    return frozenset([*containers, *networks, *volumes])


def left_since(before: frozenset[str] | None) -> tuple[list[str], str]:
    """Return what is there now that was not `before`, or runs although its run has ended; and what was not looked at.

    On the engine, what another run of the tests has made at the same time cannot be told apart.
    """
    mine = os.environ[RUN_VARIABLE]

    def found() -> tuple[list[str], str]:
        processes = dict(_processes())
        names = sorted(f"process {name}" for name, run in processes.items() if run == mine)
        if not set(processes.values()) <= {mine}:
            return names, "not looked for what is left on the engine: another run of the tests is at work"
        if before is not None:
            names += sorted((on_engine() or frozenset()) - before)
        return names, ""

    with suppress(AssertionError):
        eventually(lambda: not found()[0], _GOING_SECONDS)
    return found()


def _processes() -> Iterator[tuple[str, str]]:
    """Yield every process that a run of the tests has started, and the run's mark; not those that run a test now."""
    us = psutil.Process()
    own = {us.pid, *(parent.pid for parent in us.parents()), *(child.pid for child in us.children())}
    for process in psutil.process_iter():
        try:
            run = process.environ().get(RUN_VARIABLE)
            if run and process.pid not in own and process.status() != psutil.STATUS_ZOMBIE:
                yield f"{process.pid} {' '.join(process.cmdline())[:100]}", run
        except psutil.Error:  # it has just ended, or is not ours to see
            continue
