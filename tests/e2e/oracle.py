"""What the real `docker compose` says of a stack, and a second compose file for stacks that it waits for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tests.support.sandbox import Sandbox

#: The file that `hasten` writes and puts into COMPOSE_FILE.
_HASTY: Final = "compose/hasty.yaml"


def hasten(project: Sandbox) -> None:
    """Have the engine check the services of a project often: Compose waits for that, and 10 and 30 s are the usual."""
    checks = "services: {db: {healthcheck: {interval: 2s}}, app: {healthcheck: {interval: 2s}}}\n"
    (project.root / _HASTY).write_text(checks)
    project.set("COMPOSE_FILE", f"compose/compose.yaml:{_HASTY}")


def verdicts(project: Sandbox, environment: Mapping[str, str] | None = None) -> dict[str, set[str]]:
    """Return what a dry run of `docker compose up -d` says of each container: Running, Recreate …"""
    said = project.compose("--dry-run", "up", "-d", environment=environment).stderr
    found: dict[str, set[str]] = {}
    for container, verdict in re.findall(r"Container (\S+) +(\w+)", said):
        found.setdefault(container, set()).add(verdict)
    return found


def assert_nothing_to_do(project: Sandbox, *running: str, environment: Mapping[str, str] | None = None) -> None:
    """Check that Compose takes all containers for its own and as wanted, these services' for running ones."""
    said = verdicts(project, environment)
    for service in running:
        assert "Running" in said.get(f"{project.name}-{service}-1", set()), said
    for container, words in said.items():
        assert not {word for word in words if word.startswith(("Creat", "Recreat"))}, (container, words)
