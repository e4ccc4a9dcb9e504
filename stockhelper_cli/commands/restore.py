"""`stockhelper restore`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Identities, Invocation, Timeout, checked_timeout, verb
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.restore import Restored


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "restore")(restore)


def restore(
    invocation: Invocation,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", show_default=False)] = None,
    latest: Annotated[bool, typer.Option("--latest", help="The newest backup.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Put back what the last restore has replaced.")] = False,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="Make no backup of the present data first.")] = False,
    identity: Identities = None,
    timeout: Timeout = 120.0,
) -> None:
    """Put a backup in the database's place; what is there now is kept beside it until the next backup."""
    if (file is not None) + latest + undo != 1:
        raise StockhelperError(
            "usage", "restore takes one of FILE, --latest and --undo", next=["stockhelper backup list"]
        )
    checked_timeout(timeout)
    from stockhelper_cli import backup
    from stockhelper_cli import restore as restoring
    from stockhelper_cli.database.backups import read

    project = invocation.project()
    source = None if undo else backup.latest(project) if file is None else read(invocation.directory / file)
    if source is not None:
        source = backup.opened(source, invocation.identities(identity or ()))
    what = source.path.name if source else "the former one"
    invocation.confirm(f"The database of {project.name} will be replaced by {what}.", project.name)
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name),
        invocation.progress(project) as emit,
    ):
        if source is None:
            result = restoring.undo(project, engine, emit, timeout=timeout)
        else:
            result = restoring.restore(project, engine, source, emit, backup_first=not no_backup, timeout=timeout)
    invocation.console.succeed("restore", result.as_json(), lambda show: _render(result, show))


def _render(result: Restored, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    show(
        paint(
            ("Restored: ", "bold"),
            f"{result.database} is what {Path(result.source).name} holds,"
            f" at revision {', '.join(result.revisions) or 'base'}.",
        )
    )
    if result.former:
        show(
            paint(
                f"What was live before is kept as {result.former} until the next backup; ",
                ("stockhelper restore --undo", "cyan"),
                " puts it back.",
            )
        )
    if result.stopped:
        show(paint(f"Not running: {', '.join(result.stopped)}; ", ("stockhelper up", "cyan"), " goes on from here."))
