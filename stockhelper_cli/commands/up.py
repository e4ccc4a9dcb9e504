"""`stockhelper up`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Invocation, Services, Timeout, checked_timeout, verb
from stockhelper_cli.errors import Interruption, StockhelperError
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.engine.protocol import Engine
    from stockhelper_cli.stack import UpResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "up")(up)


def up(
    invocation: Invocation,
    services: Services = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Changes nothing: up never stays attached.")] = False,
    build: Annotated[
        bool | None, typer.Option("--build/--no-build", help="Build images always, or never.", show_default=False)
    ] = None,
    dev: Annotated[bool, typer.Option("--dev", help="For development: source mounted, database on loopback.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and why.")] = False,
    timeout: Timeout = 120.0,
    migrate: Annotated[bool, typer.Option("--migrate/--no-migrate", help="Run the migrations.")] = True,
    no_backup: Annotated[
        bool, typer.Option("--no-backup", help="Make no backup before the database is migrated.")
    ] = False,
    remove_orphans: Annotated[
        bool, typer.Option("--remove-orphans", help="Remove containers of services that are no more.")
    ] = False,
) -> None:
    """Bring the stack up and wait until it is healthy."""
    checked_timeout(timeout)
    project = invocation.project(services or (), overrides=[Path("compose/compose.dev.yaml")] if dev else [])

    from stockhelper_cli import stack

    options = stack.UpOptions(
        services=tuple(services or ()),
        build=build,
        dry_run=dry_run,
        timeout=timeout,
        migrate=migrate,
        backup=not no_backup,
        remove_orphans=remove_orphans,
    )
    with invocation.engine() as engine, _explained(invocation, project, engine):
        lock = nullcontext() if dry_run else exclusive(engine.info().id, project.name)
        with lock, invocation.progress(project) as emit:
            result = stack.up(project, engine, options, emit)
    invocation.console.succeed("up", result.as_json(), lambda show: _render(result, show))


@contextmanager
def _explained(invocation: Invocation, project: Project, engine: Engine) -> Iterator[None]:
    """Put what `doctor` finds about an error beside it; nothing may hide or hold up the error itself."""
    try:
        yield
    except StockhelperError as error:
        from stockhelper_cli.commands.doctor import context_of
        from stockhelper_cli.doctor.explain import explain

        # Ctrl-C: who does not want to wait for it is told the error alone.
        with suppress(Interruption):
            error.findings = explain(error, context_of(invocation, engine=engine, project=project))
        raise


def _render(result: UpResult, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    if result.dry_run:
        show(paint(str(result.plan)))
        return
    if not result.plan.changes:
        show(paint(("Nothing to do: ", "bold"), "everything runs as it should."))
    if result.backup:
        show(paint("The data as it was before the migration is in ", (str(result.backup), "bold"), ", verified."))
    for url in result.urls:
        show(paint(("The stock assistant answers: ", "bold green"), url))
        show(paint("  api      ", (f"{url}/api/v1", "dim")))
        show(paint("  health   ", (f"{url}/api/v1/health", "dim")))
    show(paint("  next     ", ("stockhelper status", "cyan"), " · ", ("stockhelper down", "cyan")))
