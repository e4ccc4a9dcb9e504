"""`stockhelper migrate`: Alembic's commands on the stack's database."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.migration import MigrateOptions, MigrateResult, NewMigration

#: Seconds that a migration waits for another run that is at work on the project.
LOCK_SECONDS: Final = 300.0
#: So many revisions back, as Alembic writes it; all else that begins like an option is taken for one.
_BACK: Final = re.compile(r"-\d+")
_STDOUT: Final = 1


class Step(StrEnum):
    """What Alembic is asked for."""

    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    CURRENT = "current"
    HISTORY = "history"
    CHECK = "check"
    NEW = "new"


#: Those that go somewhere.
_GOING: Final = (Step.UPGRADE, Step.DOWNGRADE)
#: Those that change nothing, and wait for nobody.
_TELLING: Final = (Step.CURRENT, Step.HISTORY)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "migrate", context_settings={"ignore_unknown_options": True})(migrate)


def migrate(
    invocation: Invocation,
    step: Annotated[
        Step,
        typer.Argument(metavar="[STEP]", show_default=False, help="What to do: upgrade, where nothing is said."),
    ] = Step.UPGRADE,
    revision: Annotated[
        str | None,
        typer.Argument(metavar="[REV]", show_default=False, help="Where to go: 0002, head, base, -1 (one back)."),
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="With new: what the migration does.")
    ] = None,
    sql: Annotated[bool, typer.Option("--sql", help="Print what would be run, and run nothing.")] = False,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="Make no backup before the schema changes.")] = False,
) -> None:
    """Migrate the database, ask where it stands, or write a migration."""
    _check(step, revision, message, sql=sql, no_backup=no_backup)
    project = invocation.project()
    if step is Step.DOWNGRADE and not sql:
        first = "without a backup" if no_backup else "after a backup was made and verified"
        question = f"The database of {project.name} will be taken back to {revision}, {first}; what was added is lost."
        invocation.confirm(question, project.name)

    from stockhelper_cli import migration

    def show(stream: int, line: str) -> None:
        # What was asked for is the result, and comes whole at the end.
        if stream != _STDOUT or (step in _GOING and not sql):
            invocation.console.note(line)

    with invocation.engine() as engine:
        lock = (
            nullcontext() if step in _TELLING else exclusive(engine.info().id, project.name, wait_seconds=LOCK_SECONDS)
        )
        with lock, invocation.progress(project) as emit:
            if step is Step.NEW:
                made = migration.new_migration(project, engine, message or "", emit, show)
            else:
                options = migration.MigrateOptions(step.value, revision or "", sql=sql, backup=not no_backup)
                result = migration.migrate(project, engine, options, emit, show)
    if step is Step.NEW:
        invocation.console.succeed("migrate new", made.as_json(), lambda show: _render_new(made, show))
    else:
        invocation.console.succeed("migrate", result.as_json(), lambda show: _render(options, result, show))


def _check(step: Step, revision: str | None, message: str | None, *, sql: bool, no_backup: bool) -> None:
    """Raise `StockhelperError` (usage) for words that do not go together."""
    wrong = ""
    if revision is not None and step not in _GOING:
        wrong = f"migrate {step.value} takes no revision"
    elif revision is not None and revision.startswith("-") and not _BACK.fullmatch(revision):
        wrong = f"No such option: {revision}"
    elif revision is None and step is Step.DOWNGRADE:
        wrong = "migrate downgrade needs the revision to go back to, such as -1"
    elif (message is not None) != (step is Step.NEW):
        wrong = "migrate new needs a message: -m TEXT" if step is Step.NEW else f"migrate {step.value} takes no message"
    elif sql and step not in _GOING:
        wrong = f"migrate {step.value} has no SQL to print"
    elif no_backup and (step not in _GOING or sql):
        wrong = "--no-backup is for what changes the database: upgrade and downgrade"
    if wrong:
        raise StockhelperError("usage", wrong, next=["stockhelper migrate --help"])


def _render(options: MigrateOptions, result: MigrateResult, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    for line in result.output:
        typer.echo(line)
    if options.sql or options.command not in _GOING:
        return
    if result.backup:
        show(paint("The data as it was before is in ", (str(result.backup), "bold"), ", verified."))
    where = f"the database is at {result.after}"
    if result.changed:
        show(paint(("Migrated: ", "bold"), f"{where}; it was at {result.before}."))
    else:
        show(paint(("Nothing to do: ", "bold"), f"{where}."))
    if result.changed and options.command == Step.DOWNGRADE:
        show(paint("The next ", ("stockhelper up", "cyan"), " migrates it again, unless the code is older by then."))


def _render_new(made: NewMigration, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    show(paint((str(made.path), "bold"), " written; read it before it is applied."))
    if not made.changes:
        show(paint("The models and the database do not differ: what it is to do is for you to write."))
    show(paint("  next     ", ("stockhelper migrate", "cyan")))
