"""`stockhelper down`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.stack import DownResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "down")(down)


def down(
    invocation: Invocation,
    volumes: Annotated[bool, typer.Option("--volumes", "-v", help="Remove the volumes too: the data is lost.")] = False,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="With --volumes: make no backup first.")] = False,
    remove_orphans: Annotated[
        bool, typer.Option("--remove-orphans", help="Remove containers of services that are no more.")
    ] = False,
) -> None:
    """Stop and remove the containers and the network; the data stays."""
    project = invocation.project()
    if volumes and not no_backup:
        raise StockhelperError(
            "confirmation",
            "down --volumes would lose the data, and makes no backup yet",
            cause="nothing was done",
            next=["stockhelper down --volumes --no-backup"],
        )
    if volumes:
        invocation.confirm(f"The volumes of {project.name} and all data in them will be removed.", project.name)

    from stockhelper_cli import stack

    options = stack.DownOptions(volumes=volumes, remove_orphans=remove_orphans)
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name),
        invocation.progress(project) as emit,
    ):
        result = stack.down(project, engine, options, emit)
    invocation.console.succeed("down", result.as_json(), lambda show: _render(result, show))


def _render(result: DownResult, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    if not result.plan:
        show(paint(("Nothing to do: ", "bold"), "nothing of the stack is there."))
    for volume in result.kept_volumes:
        show(paint("The data stays in the volume ", (volume, "bold"), "."))
