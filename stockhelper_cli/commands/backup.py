"""`stockhelper backup`: create, list, verify and prune."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Identities, Invocation, verb
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.backup import Made
    from stockhelper_cli.database.backups import Backup


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    backup = typer.Typer(no_args_is_help=False, rich_markup_mode=None)
    verb(backup, "create", command="backup create")(create)
    verb(backup, "list", command="backup list")(list_backups)
    verb(backup, "verify", command="backup verify")(verify)
    verb(backup, "copy", command="backup copy")(copy)
    verb(backup, "schedule", command="backup schedule")(schedule)
    verb(backup, "prune", command="backup prune")(prune)
    app.add_typer(backup, name="backup", help="Make, list, verify and prune backups of the database.")


def create(
    invocation: Invocation,
    verify: Annotated[bool, typer.Option("--verify", help="Restore it into a scratch database and compare.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Then remove old ones, as backup prune does.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for another run on the project.")
    ] = 0.0,
) -> None:
    """Write the database, as it is at this moment, into a file; all of it is read back."""
    if prune and not verify:
        raise StockhelperError("usage", "--prune needs --verify: only verified backups count for it")
    from stockhelper_cli import backup

    project = invocation.project()
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name, wait_seconds=wait),
        invocation.progress(project) as emit,
    ):
        made = backup.create(project, engine, emit, cause="backup create", verify=verify)
        if verify:
            backup.copy(project, emit)
        if prune:
            backup.prune(project, daily=backup.KEEP_DAILY, weekly=backup.KEEP_WEEKLY, dry_run=False)
    invocation.console.succeed("backup create", made.as_json(), lambda show: _render_made(made, show))


def list_backups(invocation: Invocation) -> None:
    """Show the backups, the newest first."""
    from stockhelper_cli import backup

    found = backup.list_backups(invocation.project())
    result = {"backups": [entry.as_json() for entry in found]}
    invocation.console.succeed("backup list", result, lambda show: _render_list(found, show))


def verify(
    invocation: Invocation,
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every backup that was not verified yet.")] = False,
    identity: Identities = None,
) -> None:
    """Restore backups into a scratch database and compare what comes out (no file named: the newest)."""
    from stockhelper_cli import backup
    from stockhelper_cli.database.backups import read

    project = invocation.project()
    if files:
        chosen = [read(invocation.directory / file) for file in files]
    elif everything:
        chosen = [entry for entry in backup.list_backups(project) if not entry.verified]
    else:
        chosen = [backup.latest(project)]
    keys = invocation.identities(identity or ())
    chosen = [backup.opened(entry, keys) for entry in chosen]
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name),
        invocation.progress(project) as emit,
    ):
        verified = [backup.check(project, engine, entry, emit) for entry in chosen]
    result = {"verified": [entry.as_json() for entry in verified]}
    invocation.console.succeed("backup verify", result, lambda show: _render_verified(verified, show))


def copy(invocation: Invocation) -> None:
    """Copy every verified backup that was not copied yet, by BACKUP_COPY_COMMAND."""
    from stockhelper_cli import backup

    project = invocation.project()
    if not project.environment.get("BACKUP_COPY_COMMAND"):
        raise StockhelperError(
            "config.value", ".env: BACKUP_COPY_COMMAND is not set", next=["set it, such as: scp {} me@home:backups/"]
        )
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name),
        invocation.progress(project) as emit,
    ):
        copied = backup.copy(project, emit)
    result = {"copied": [str(entry.path) for entry in copied]}
    invocation.console.succeed("backup copy", result, lambda show: _render_copied(copied, show))


def schedule(
    invocation: Invocation,
    at: Annotated[
        str | None, typer.Option(metavar="HH:MM", show_default=False, help="When, in this machine's time [03:17].")
    ] = None,
    hourly: Annotated[bool, typer.Option("--hourly", help="Every hour, at the minute of --at.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Change nothing; say what there is.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take it out again.")] = False,
) -> None:
    """Have a backup made, verified and old ones pruned every day, by systemd or cron."""
    import datetime as dt

    from stockhelper_cli import schedule as scheduling

    try:
        moment = dt.time.fromisoformat(at or "03:17")
    except ValueError as error:
        raise StockhelperError("usage", f"--at is {at}, which is no time of the day such as 03:17") from error
    if (at is not None or hourly) + show + remove > 1:
        raise StockhelperError("usage", "--show and --remove stand alone")
    project = invocation.project()
    job = scheduling.Job(
        project.name,
        project.root,
        moment,
        hourly,
        tuple(_global_options(invocation)),
        scheduling.variables_of(invocation.environ),
    )
    place = scheduling.place_here()
    there, wanted = place.installed(job), place.texts(job)
    keep = show or (bool(there) and not (at or hourly or remove))
    changed = bool(there) if remove else not keep and there != wanted
    if changed:
        told = there if remove else wanted
        text = "\n".join(f"--- {path}\n{content}" for path, content in told.items())
        invocation.confirm(f"{text}\nThis will be {'removed from' if remove else 'written for'} {place.title}.", "yes")
        (place.remove if remove else place.install)(job)
        there = {} if remove else wanted
    result = {"place": place.title, "changed": changed, "files": {str(path): text for path, text in there.items()}}
    invocation.console.succeed("backup schedule", result, lambda show: _render_schedule(there, changed, show))


def _global_options(invocation: Invocation) -> Iterator[str]:
    """Yield what was said before the verb, by absolute paths."""
    if invocation.project_name:
        yield from ("--project-name", invocation.project_name)
    for file in invocation.files:
        yield from ("--file", str((invocation.directory / file).resolve()))
    if invocation.env_file:
        yield from ("--env-file", str((invocation.directory / invocation.env_file).resolve()))


def prune(
    invocation: Invocation,
    keep_daily: Annotated[int, typer.Option(min=0, metavar="N", help="Keep the newest of the last N days.")] = 7,
    keep_weekly: Annotated[int, typer.Option(min=0, metavar="N", help="Keep the newest of the last N weeks.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; show what would go.")] = False,
) -> None:
    """Remove old backups; only verified ones count, and the last of them always stays."""
    from stockhelper_cli import backup

    project = invocation.project()
    with invocation.engine() as engine, exclusive(engine.info().id, project.name):
        gone = backup.prune(project, daily=keep_daily, weekly=keep_weekly, dry_run=dry_run)
    result = {"removed": [str(entry.path) for entry in gone], "dry_run": dry_run}
    invocation.console.succeed("backup prune", result, lambda show: _render_pruned(gone, dry_run, show))


def _render_made(made: Made, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint, size

    backup = made.backup
    show(paint((str(backup.path), "bold"), f"  {size(backup.size)}, {backup.rows} rows"))
    if backup.manifest and (keys := backup.manifest.recipients):
        show(paint(f"Encrypted to {len(keys)} recipient{'s' if len(keys) > 1 else ''}."))
    if not backup.verified:
        command = "stockhelper backup verify" + (" --identity FILE" if backup.encrypted else "")
        show(paint("Read back whole. ", (command, "cyan"), " restores it once and compares."))


def _render_list(found: Sequence[Backup], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint, size, table

    if not found:
        show(paint("No backups yet: ", ("stockhelper backup create", "cyan")))
        return
    rows = []
    for backup in found:
        assert backup.manifest is not None
        rows.append(
            (
                backup.path.name,
                _state(backup),
                size(backup.size),
                str(backup.rows),
                ", ".join(backup.manifest.contents.revisions) or "base",
                backup.manifest.cause,
            )
        )
    show(table(("file", "state", "size", "rows", "revision", "made for"), rows))


def _state(backup: Backup) -> str:
    assert backup.manifest is not None
    known = {
        "verified" if backup.verified else "read back": True,
        "encrypted": backup.encrypted,
        "copied": backup.copied,
    }
    return ", ".join(state for state, true in known.items() if true)


def _render_verified(verified: Sequence[Backup], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    for backup in verified:
        show(paint((backup.path.name, "bold"), f" verified: restored, and {backup.rows} rows are what they were"))
    if not verified:
        show(paint("Nothing to do: ", "every backup is verified."))


def _render_copied(copied: Sequence[Backup], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    for backup in copied:
        show(paint((backup.path.name, "bold"), " copied"))
    if not copied:
        show(paint(("Nothing to do: ", "bold"), "every verified backup was copied."))


def _render_schedule(there: Mapping[Path, str], changed: bool, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    if not there:
        said = "Backups are not scheduled any more." if changed else "No backups are scheduled: "
        show(paint(said, *(() if changed else (("stockhelper backup schedule --at 03:17", "cyan"),))))
    for path, text in there.items():
        show(paint((str(path), "bold"), " written" if changed else " is there"))
        if not changed:
            show(text.rstrip())


def _render_pruned(gone: Sequence[Backup], dry_run: bool, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    for backup in gone:
        show(paint((backup.path.name, "bold"), " would be removed" if dry_run else " removed"))
    if not gone:
        show(paint(("Nothing to do: ", "bold"), "no verified backup is older than what is kept."))
