"""`stockhelper down`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.backup import Made
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
    if volumes:
        first = "without a backup" if no_backup else "after a backup was made and verified"
        question = f"The volumes of {project.name} and all data in them will be removed, {first}."
        invocation.confirm(question, project.name)

    from stockhelper_cli import backup, stack
    from stockhelper_cli.stack import DEFAULT_TIMEOUT

    options = stack.DownOptions(volumes=volumes, remove_orphans=remove_orphans)
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name),
        invocation.progress(project) as emit,
    ):
        made = None
        if volumes and not no_backup:
            try:
                made = backup.before_loss(project, engine, emit, cause="before down --volumes", timeout=DEFAULT_TIMEOUT)
            except StockhelperError as error:
                error.next = (*error.next, "stockhelper down --volumes --no-backup")
                raise
        result = stack.down(project, engine, options, emit)
    answer = {**result.as_json(), "backup": str(made.backup.path) if made else None}
    invocation.console.succeed("down", answer, lambda show: _render(result, made, show))


def _render(result: DownResult, made: Made | None, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    if made:
        show(paint("The data is in ", (str(made.backup.path), "bold"), ", verified."))
    if not result.plan:
        show(paint(("Nothing to do: ", "bold"), "nothing of the stack is there."))
    for volume in result.kept_volumes:
        show(paint("The data stays in the volume ", (volume, "bold"), "."))
