"""What the scenarios have in common: looking at a stack, and being refused."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.refusals import explained as explained
from tests.support.refusals import without_override as without_override
from tests.support.sandbox import Result, Sandbox, names_of
from tests.support.waiting import PATIENCE


def health(project: Sandbox) -> int:
    """Return the status that its app answers when it is asked for its health, 0 where nobody answers."""
    try:
        return project.get("/api/v1/health").status_code
    except httpx.TransportError:
        return 0


def healthy(project: Sandbox) -> bool:
    """Whether its app answers, and the database behind it.

    The app gives the database two seconds, and on a machine that stood still says that it is away: it is asked again.
    """
    deadline = time.monotonic() + PATIENCE
    while (status := health(project)) == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    return status == 200


@contextmanager
def session(project: Sandbox, sql: str) -> Iterator[subprocess.Popen[str]]:
    """Keep a session in the database open that has run statements; with its input it ends, if the server has not."""
    process = subprocess.Popen(
        ["docker", "exec", "-i", f"{project.name}-db-1", "psql", "-XqU", "stockhelper", "stockhelper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{sql};\n\\echo there\n")
    process.stdin.flush()
    assert process.stdout.readline() == "there\n"
    try:
        yield process
    finally:
        process.communicate()


def runs(project: Sandbox, *services: str) -> dict[str, tuple[str, str]]:
    """Return each service's container and when it was started: what no command may change that changes nothing."""
    inspected = {service: project.container(service) for service in services or ("db", "migrate", "app")}
    return {service: (raw["Id"], raw["State"]["StartedAt"]) for service, raw in inspected.items()}


def refused(project: Sandbox, result: Result, code: int, *parts: str) -> None:
    """Check that a command failed with a code and one clear line that has these parts, and left the engine alone."""
    explained(result, code, *parts)
    assert names_of(project.name) == []
