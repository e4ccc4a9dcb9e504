"""`stockhelper db`: set-password."""

from __future__ import annotations

from collections.abc import Callable

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.lock import exclusive


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    db = typer.Typer(rich_markup_mode=None)
    verb(db, "set-password", command="db set-password")(set_password)
    # With one verb only, Typer would make the group that verb.
    db.callback()(_group)
    app.add_typer(db, name="db", help="Look after the database.")


def _group() -> None:
    """Look after the database."""


def set_password(invocation: Invocation) -> None:
    """Give the database's owner the password that .env holds, in place; the data stays."""
    from stockhelper_cli.database.psql import Credentials, database_service, set_owner_password

    project = invocation.project()
    service = database_service(project.services)
    if service is None:
        raise StockhelperError("config.compose", "no service of the project has the role database")

    from stockhelper_cli.stack import running_container

    credentials = Credentials.of(service.environment)
    with invocation.engine() as engine, exclusive(engine.info().id, project.name):
        container = running_container(project, engine, service.name)
        set_owner_password(engine, container.id, credentials)
    invocation.console.succeed(
        "db set-password", {"user": credentials.user}, lambda show: _render(credentials.user, show)
    )


def _render(user: str, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    show(paint(f"{user} has the password of .env now; ", ("stockhelper up", "cyan"), " takes it into use"))
