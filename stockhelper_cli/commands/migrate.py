"""`stockhelper migrate`: Alembic's commands on the stack's database."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.lock import exclusive

#: Seconds that a migration waits for another run that is at work on the project.
LOCK_SECONDS = 300.0


class Step(StrEnum):
    """What Alembic is asked for."""

    UPGRADE = "upgrade"
    CURRENT = "current"
    HISTORY = "history"
    CHECK = "check"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "migrate")(migrate)


def migrate(
    invocation: Invocation,
    step: Annotated[Step, typer.Argument(metavar="[upgrade|current|history|check]", show_default=False)] = Step.UPGRADE,
    revision: Annotated[str | None, typer.Argument(metavar="[REV]", show_default=False)] = None,
) -> None:
    """Migrate the database to the newest revision, or ask where it stands."""
    if revision is not None and step is not Step.UPGRADE:
        raise StockhelperError("usage", f"migrate {step.value} takes no revision")
    arguments = [step.value]
    if step is Step.UPGRADE:
        arguments.append(revision or "head")
    project = invocation.project()

    from stockhelper_cli import migration

    shown = invocation.console.json or invocation.console.quiet
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name, wait_seconds=LOCK_SECONDS),
    ):
        result = migration.migrate(project, engine, arguments, (lambda line: None) if shown else typer.echo)
    invocation.console.succeed("migrate", result.as_json(), lambda show: None)
