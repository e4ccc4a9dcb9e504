"""`stockhelper logs`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockhelper_cli.commands.context import Invocation, Services, verb
from stockhelper_cli.errors import Interruption, StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.logs import Line


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "logs")(logs)


def logs(
    invocation: Invocation,
    services: Services = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, through restarts.")] = False,
    tail: Annotated[str, typer.Option("--tail", "-n", metavar="N|all", help="Lines of each service's end.")] = "all",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="What came after: 2026-01-31T09:30:00, or a span such as 90s.")
    ] = None,
) -> None:
    """Show what the services print."""
    from stockhelper_cli import logs as reading

    count = _count(tail)
    after = None if since is None else reading.parse_since(since, time.time())
    project = invocation.project(services or (), creates=False)
    names = tuple(services or ())
    width = max(len(name) for name in names or project.services) + 2
    with invocation.engine() as engine:
        if follow:
            try:
                for line in reading.follow_logs(project, engine, names, tail=count, since=after):
                    if invocation.console.json:
                        invocation.console.json_line(_as_json(line))
                    else:
                        _show(invocation, line, width)
            except Interruption as interruption:  # how one stops following: nothing to tell of
                raise typer.Exit(interruption.error.exit_code) from None
            return
        lines = reading.read_logs(project, engine, names, tail=count, since=after)
    if invocation.console.json:
        invocation.console.succeed("logs", {"lines": [_as_json(line) for line in lines]}, lambda show: None)
        return
    for line in lines:
        _show(invocation, line, width)


def _count(tail: str) -> int | None:
    if tail == "all":
        return None
    if not tail.isdecimal():
        raise StockhelperError("usage", f"--tail {tail}: neither a number of lines nor all")
    return int(tail)


def _as_json(line: Line) -> dict[str, Any]:
    return {"service": line.service, "container": line.number, "time": line.time, "line": line.text}


def _show(invocation: Invocation, line: Line, width: int) -> None:
    """Write one line behind its container's name, as `docker compose logs` does; nothing is wrapped or cut."""
    name = f"{line.service}-{line.number}"
    sys.stdout.write(invocation.console.tint(f"{name:<{width}} | ", line.service) + line.text + "\n")
    sys.stdout.flush()
