"""`stockhelper db`: set-password."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Invocation, Timeout, checked_timeout, verb
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.credentials import PasswordSet


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    db = typer.Typer(rich_markup_mode=None)
    verb(db, "set-password", command="db set-password")(set_password)
    # With one verb only, Typer would make the group that verb.
    db.callback()(_group)
    app.add_typer(db, name="db", help="Look after the database.")


def _group() -> None:
    """Look after the database."""


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
