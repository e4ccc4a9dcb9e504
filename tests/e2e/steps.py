"""What the scenarios have in common: looking at a stack, and being refused."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from docker.models.containers import Container

from stockhelper_cli.labels import PROJECT
from tests.support.refusals import explained
from tests.support.sandbox import Result, Sandbox, client, execute, names_of
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


def command_lines(container: Container) -> str:
    """Return the command lines of a container's processes. The engine's own list needs a `ps` on this machine."""
    return execute(container, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")[1]


def runs(project: Sandbox, *services: str) -> dict[str, tuple[str, str]]:
    """Return each service's container and when it was started: what no command may change that changes nothing."""
    inspected = {service: project.container(service) for service in services or ("db", "migrate", "app")}
    return {service: (raw["Id"], raw["State"]["StartedAt"]) for service, raw in inspected.items()}


def refused(project: Sandbox, result: Result, code: int, *parts: str) -> None:
    """Check that a command failed with a code and one clear line that has these parts, and left the engine alone."""
    explained(result, code, *parts)
    assert names_of(project.name) == []


class Baseline:
    """How a stack is when it is as it should be: its files, and what the engine has of it.

    For stacks that tests share and change: to compare costs a tenth of an `up` that finds nothing to do.
    """

    def __init__(self, project: Sandbox) -> None:
        self.project = project
        self._files = _files(project)
        self._state = engine_state(project)

    def restore(self) -> None:
        """Make the files what they were, and the stack too, by an `up`, if the engine has something else."""
        files = _files(self.project)
        for path in files.keys() - self._files.keys():
            path.unlink()
        for path, (content, mode) in self._files.items():
            if files.get(path) != (content, mode):
                path.write_bytes(content)
                path.chmod(mode)
        if engine_state(self.project) != self._state:
            self.project.up("--remove-orphans")
            self._state = engine_state(self.project)


def _files(project: Sandbox) -> Mapping[Path, tuple[bytes, int]]:
    """Return the content and the mode of .env, of the compose files, and of what else a test may have put beside."""
    paths = [*project.root.iterdir(), *(project.root / "compose").rglob("*")]
    return {path: (path.read_bytes(), path.stat().st_mode & 0o777) for path in paths if path.is_file()}


def engine_state(project: Sandbox) -> set[tuple[object, ...]]:
    """Return what the engine has of a stack: containers, since when they run and how, networks and volumes."""
    api, own = client().api, {"label": f"{PROJECT}={project.name}"}
    containers: list[Any] = [api.inspect_container(row["Id"]) for row in api.containers(all=True, filters=own)]
    return {
        *(
            (
                container["Name"],
                container["Id"],
                container["State"]["Status"],
                container["State"]["StartedAt"],
                # Healthy or not known yet: it has no check, or the first one is due.
                container["State"].get("Health", {}).get("Status") == "unhealthy",
                *sorted(
                    (name, end["NetworkID"], *sorted(end["Aliases"] or ()))
                    for name, end in container["NetworkSettings"]["Networks"].items()
                ),
            )
            for container in containers
        ),
        *((network["Name"], network["Id"]) for network in api.networks(filters=own)),
        *((volume["Name"], volume["CreatedAt"]) for volume in api.volumes(filters=own)["Volumes"] or ()),
    }
