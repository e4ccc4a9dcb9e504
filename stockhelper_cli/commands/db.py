"""`stockhelper db`: set-password and upgrade."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Invocation, Timeout, checked_timeout, verb
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.credentials import PasswordSet
    from stockhelper_cli.upgrade import Upgraded


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    db = typer.Typer(rich_markup_mode=None)
    verb(db, "set-password", command="db set-password")(set_password)
    verb(db, "upgrade", command="db upgrade")(upgrade)
    app.add_typer(db, name="db", help="Look after the database.")


def set_password(
    invocation: Invocation,
    generate: Annotated[bool, typer.Option("--generate", help="A new random one, written to .env.")] = False,
    from_stdin: Annotated[bool, typer.Option("--stdin", help="A new one, read from stdin, written to .env.")] = False,
    timeout: Timeout = 120.0,
) -> None:
    """Give the database's owner the password that .env holds, or a new one, in place; the data stays."""
    checked_timeout(timeout)
    if generate and from_stdin:
        raise StockhelperError("usage", "--generate and --stdin exclude each other")
    from stockhelper_cli import credentials
    from stockhelper_cli.machine.init_env import random_secret

    new = random_secret() if generate else _read_password() if from_stdin else None
    project = invocation.project()
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name),
        invocation.progress(project) as emit,
    ):
        result = credentials.set_password(invocation.project, engine, new, emit, timeout=timeout)
    invocation.console.succeed("db set-password", result.as_json(), lambda show: _render(result, show))


def upgrade(
    invocation: Invocation,
    former: Annotated[
        str,
        typer.Option("--from", metavar="IMAGE", help="The former image, where it is not found.", show_default=False),
    ] = "",
    timeout: Timeout = 120.0,
) -> None:
    """Move the data to another PostgreSQL major.

    It is that of POSTGRES_IMAGE, in a new volume that .env names then; the old one stays. The stack is down meanwhile.
    """
    checked_timeout(timeout)
    from stockhelper_cli import upgrade as upgrading

    def load(volume: str) -> Project:
        named = {upgrading.KEY: volume} if volume else {}
        return replace(invocation, environ={**invocation.environ, **named}).project()

    project = load("")
    with (
        invocation.engine() as engine,
        exclusive(engine.info().id, project.name),
        invocation.progress(project) as emit,
    ):
        result = upgrading.upgrade(load, engine, former, emit, environ=invocation.environ, timeout=timeout)
    invocation.console.succeed("db upgrade", result.as_json(), lambda show: _render_upgrade(result, show))


def _render_upgrade(result: Upgraded, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint
    from stockhelper_cli.upgrade import way_back

    before, after = result.before, result.after
    if not result.changed:
        show(paint(("Nothing to do: ", "bold"), f"{after.image} and the volume are PostgreSQL {after.major}."))
        return
    show(
        paint(
            ("Upgraded: ", "bold"),
            f"PostgreSQL {before.major} -> {after.major}; {result.rows} rows are what they were;"
            f" the stack was away for {result.outage:.1f} s.",
        )
    )
    show(paint("What was there stays as it was; what is written from now on is not in it:"))
    show(paint("  volume   ", (before.volume, "bold")))
    show(paint("  backup   ", (str(result.backup), "bold")))
    show(paint("  back     ", (way_back(before), "cyan")))
    show(paint("  let go   ", (f"docker volume rm {before.volume}", "cyan")))


def _read_password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise StockhelperError("usage", "there is no password on stdin")
    return password


def _render(result: PasswordSet, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    where = "; it is in .env" if result.updated_env else " of .env"
    show(paint(f"{result.user} has the password{where}. "))
    if result.restarted:
        show(paint(f"Restarted with it: {', '.join(result.restarted)}."))
