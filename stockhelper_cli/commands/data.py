"""`stockhelper data`: import and sync."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import ExitCode, StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.data import Imported, Synced


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    data = typer.Typer(no_args_is_help=False, rich_markup_mode=None)
    verb(data, "import", command="data import")(import_files)
    verb(data, "sync", command="data sync")(sync)
    app.add_typer(data, name="data", help="Bring bars into the database.")


def import_files(
    invocation: Invocation, files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)]
) -> None:
    """Load CSV files of daily bars (-: stdin). Exits 1 if rows were bad; a day with one is left as it was."""
    from stockhelper_cli import data

    project = invocation.project()
    paths = [file if file == data.STDIN else invocation.directory / file for file in files]
    with invocation.engine() as engine, invocation.progress(project) as emit:
        imported = data.import_files(project, engine, paths, emit)
    ok = all(file.ok for file in imported)
    result = {"files": [file.as_json() for file in imported]}
    invocation.console.succeed("data import", result, lambda show: _render_imported(imported, show), ok=ok)
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


def sync(
    invocation: Invocation,
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="Fetch from this day on, again.")] = "",
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="Fetch no later day.")] = "",
) -> None:
    """Fetch the bars that are missing from the provider, now. Days are written as 2026-11-20."""
    since, until = _day("--from", first), _day("--to", last)
    if since and until and since > until:
        raise StockhelperError("usage", f"--from {since} is after --to {until}")
    from stockhelper_cli import data

    project = invocation.project()
    with invocation.engine() as engine, invocation.progress(project) as emit:
        synced = data.sync(project, engine, since, until, emit)
    invocation.console.succeed("data sync", synced.as_json(), lambda show: _render_synced(synced, show))


def _day(option: str, text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError:
        raise StockhelperError("usage", f"{option} is not a day, such as 2026-11-20: {text}") from None


def _render_imported(imported: Sequence[Imported], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    for file in imported:
        name = (Path(file.file).name, "bold")
        if file.error:
            show(paint(name, (": not imported; ", "red"), file.error))
            continue
        span = f" of {_count(file.days, 'day')}, {file.first_day} to {file.last_day}" if file.days else ""
        show(paint(name, f": {_count(file.rows, 'bar')}{span}; {file.changed} new or different"))
        for row in file.bad:
            show(paint(f"{Path(file.file).name}:{row.line}: ", (row.reason, "red")))
        if file.bad_rows > len(file.bad):
            show(paint(f"and {file.bad_rows - len(file.bad)} bad rows more"))
        if file.bad_rows:
            show(paint(f"{_count(file.bad_rows, 'bad row')}; ", _left(file)))


def _left(file: Imported) -> str:
    if not file.days:
        return "nothing was loaded"
    shown = ", ".join(file.refused_days[:5]) + (" …" if len(file.refused_days) > 5 else "")
    return f"{_count(len(file.refused_days), 'day')} left as they were: {shown}"


def _render_synced(synced: Synced, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    if not synced.days:
        show(paint(("Nothing to do: ", "bold"), f"no trading day is missing ({synced.source})."))
        return
    span = f"{_count(synced.days, 'day')}, {synced.first_day} to {synced.last_day}"
    amount = f"{_count(synced.rows, 'bar')}, {synced.changed} new or different"
    show(paint(("Synced: ", "bold"), f"{span}; {amount}, from {synced.source}."))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
