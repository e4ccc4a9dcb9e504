"""`stockhelper status`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import ExitCode

if TYPE_CHECKING:
    from stockhelper_cli.status import ServiceStatus, StatusResult


def register(app: typer.Typer) -> None:
    """Add the verb and its alias."""
    verb(app, "status", "ps")(status)


def status(invocation: Invocation) -> None:
    """Show the services: state, health, ports, image, uptime. Exits 1 unless all is well."""
    project = invocation.project(creates=False)

    from stockhelper_cli.status import status as ask

    with invocation.engine() as engine:
        result = ask(project, engine)
    invocation.console.succeed("status", result.as_json(), lambda show: _render(result, show), ok=result.ok)
    if not result.ok:
        raise typer.Exit(ExitCode.FAILED)


def _render(result: StatusResult, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint, table

    now = datetime.now(UTC)
    rows = [_row(service, now) for service in result.services]
    show(table(("SERVICE", "STATE", "HEALTH", "UPTIME", "PORTS", "IMAGE"), rows))
    for orphan in result.orphans:
        show(paint(("orphan: ", "yellow"), orphan, (" (belongs to no service)", "dim")))


def _row(service: ServiceStatus, now: datetime) -> tuple[str, ...]:
    container = service.container
    if container is None:
        return service.name, service.state, "", "", "", ""
    state = service.state if service.state != "exited" else f"exited ({container.exit_code})"
    uptime = ""
    if container.running and container.started_at:
        uptime = _duration(max(0.0, (now - container.started_at).total_seconds()))  # its engine's clock may be ahead
    ports = ", ".join(map(str, container.ports))
    health = f"{service.health}: {service.problem}" if service.problem else service.health
    return service.name, state, health, uptime, ports, container.image


def _duration(seconds: float) -> str:
    """Write a time span in its one or two largest units."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            smaller = {"d": ("h", 3600), "h": ("m", 60), "m": ("s", 1)}[unit]
            rest = int(seconds % length // smaller[1])
            return f"{int(seconds // length)}{unit} {rest}{smaller[0]}"
    return f"{int(seconds)}s"
