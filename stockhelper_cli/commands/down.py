"""`stockhelper down`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Invocation, verb
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
    project = invocation.project(creates=volumes)
    if volumes:
        first = "without a backup" if no_backup else "after a backup was made and verified"
        question = f"The volumes of {project.name} and all data in them will be removed, {first}."
        invocation.confirm(question, project.name)

    from stockhelper_cli import stack

    options = stack.DownOptions(volumes=volumes, backup=not no_backup, remove_orphans=remove_orphans)
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name),
        invocation.progress(project) as emit,
    ):
        result = stack.down(project, engine, options, emit)
    invocation.console.succeed("down", result.as_json(), lambda show: _render(result, show))


def _render(result: DownResult, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    if result.backup:
        show(paint("The data is in ", (str(result.backup), "bold"), ", verified."))
    if not result.plan:
        show(paint(("Nothing to do: ", "bold"), "nothing of the stack is there."))
    for volume in result.kept_volumes:
        show(paint("The data stays in the volume ", (volume, "bold"), "."))
