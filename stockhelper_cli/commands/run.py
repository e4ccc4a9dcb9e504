"""`stockhelper start`, `stop` and `restart`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from stockhelper_cli.commands.context import Invocation, Services, Timeout, checked_timeout, verb
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.stack import RunResult


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "restart")(restart)
    verb(app, "stop")(stop)
    verb(app, "start")(start)


def restart(invocation: Invocation, services: Services = None, timeout: Timeout = 120.0) -> None:
    """Restart services in the order of their dependencies and wait until they are healthy."""
    seconds = checked_timeout(timeout)
    project = invocation.project(services or (), creates=False)

    from stockhelper_cli import stack

    with invocation.engine() as engine, exclusive(engine.info().id, project.name), invocation.progress(project) as emit:
        result = stack.restart(project, engine, tuple(services or ()), seconds, emit)
    invocation.console.succeed("restart", result.as_json(), lambda show: _render(result, "restarted", show))


def stop(invocation: Invocation, services: Services = None) -> None:
    """Stop services; their containers and data stay."""
    project = invocation.project(services or (), creates=False)

    from stockhelper_cli import stack

    with invocation.engine() as engine, exclusive(engine.info().id, project.name), invocation.progress(project) as emit:
        result = stack.stop(project, engine, tuple(services or ()), emit)
    invocation.console.succeed("stop", result.as_json(), lambda show: _render(result, "stopped", show))


def start(invocation: Invocation, services: Services = None, timeout: Timeout = 120.0) -> None:
    """Start stopped services and wait until they are healthy."""
    seconds = checked_timeout(timeout)
    project = invocation.project(services or (), creates=False)

    from stockhelper_cli import stack

    with invocation.engine() as engine, exclusive(engine.info().id, project.name), invocation.progress(project) as emit:
        result = stack.start(project, engine, tuple(services or ()), seconds, emit)
    invocation.console.succeed("start", result.as_json(), lambda show: _render(result, "started", show))


def _render(result: RunResult, what: str, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    if not result.plan.changes:
        show(paint(("Nothing to do: ", "bold"), f"everything is {what} already."))
        return
    services = sorted({action.service for action in result.plan.changes})
    gap = "" if result.gap is None else f"; the app gave no answer for {result.gap:.2f} s"
    show(paint(f"{', '.join(services)} {what} in {result.seconds:.1f} s{gap}"))
