"""What the real `docker compose` says of a stack, and a second compose file that a test writes as it needs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tests.support.sandbox import Sandbox

#: The file that tests write their own part of the stack to; `extend` puts it into COMPOSE_FILE.
_EXTRA: Final = "compose/extra.yaml"

#: A service that only waits to be told to end, in the app's image: it is there already, and it is quick to end.
IDLE: Final = """
    image: ${APP_IMAGE}
    command: [python, -c, "import signal; signal.pause()"]
    init: true
    user: "0"
    stop_grace_period: 5s
    healthcheck: {disable: true}
"""


def extend(project: Sandbox, text: str = "x-none: true\n") -> None:
    """Give a project a second compose file. It is named in .env at once: .env's text is part of two services."""
    write_extra(project, text)
    project.set("COMPOSE_FILE", f"compose/compose.yaml:{_EXTRA}")


def write_extra(project: Sandbox, text: str) -> None:
    """Write the project's second compose file anew."""
    (project.root / _EXTRA).write_text(text)


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


def causes(result: Any) -> dict[str, str]:
    """Return the cause of every stop, start or creation in a plan's JSON, by container."""
    return {
        action["resource"]: action["cause"]
        for action in result["result"]["plan"]
        if action["kind"] == "container" and action["cause"] not in ("", "replaced")
    }
