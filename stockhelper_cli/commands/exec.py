"""`stockhelper exec`, `shell` and `psql`: a command inside a service's container, its streams and its exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stockhelper_cli.commands.context import Invocation, Service, service_names, verb
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project

#: What follows belongs to the command in the container, options too.
_PASSED_ON: Final = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "exec", shared=False, context_settings=_PASSED_ON)(execute)
    verb(app, "shell", shared=False)(shell)
    verb(app, "psql", shared=False, context_settings=_PASSED_ON)(psql)


Command = Annotated[list[str], typer.Argument(metavar="COMMAND [ARG]...", show_default=False)]
NoTty = Annotated[bool, typer.Option("--no-tty", "-T", help="No terminal, even where there is one.")]
User = Annotated[str, typer.Option("--user", "-u", metavar="USER", help="Run as this user.", show_default=False)]


def execute(
    invocation: Invocation,
    service: Service,
    command: Command,
    no_tty: NoTty = False,
    user: User = "",
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="KEY=VALUE", help="Set a variable.")] = None,
    workdir: Annotated[str, typer.Option("--workdir", "-w", metavar="DIR", show_default=False)] = "",
) -> None:
    """Run a command in a service's container; the exit code is the command's."""
    # Behind the service's name the parser leaves `--` standing: everything there is the command's.
    command = command[1:] if command[0] == "--" else command
    environment = dict(_assignment(entry, invocation.environ) for entry in env or ())
    _run(invocation, service, command, environment=environment, user=user, working_dir=workdir, no_tty=no_tty)


def shell(
    invocation: Invocation,
    service: Annotated[
        str, typer.Argument(metavar="[SERVICE]", show_default=False, autocompletion=service_names)
    ] = "app",
    no_tty: NoTty = False,
    user: User = "",
) -> None:
    """Open a shell in a service's container (app, if none is named)."""
    best = ["sh", "-c", "command -v bash >/dev/null && exec bash || exec sh"]
    _run(invocation, service, best, user=user, no_tty=no_tty)


def psql(
    invocation: Invocation,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARG]...", show_default=False)] = None,
) -> None:
    """Open psql on the stack's database, as its owner; what follows is psql's."""
    from stockhelper_cli.database.psql import Credentials, database_service

    project = invocation.project(creates=False)
    service = database_service(project.services)
    if service is None:
        raise StockhelperError("config.compose", "no service of the project has the role database")
    credentials = Credentials.of(service.environment)
    environment = {
        "PGUSER": credentials.user,
        "PGPASSWORD": credentials.password,
        "PGDATABASE": credentials.database,
        # The home folder is not writable; /tmp lives as long as the container runs.
        "PSQL_HISTORY": "/tmp/.psql_history",
    }
    _run(invocation, service.name, ["psql", *(arguments or ())], environment=environment, project=project)


def _run(
    invocation: Invocation,
    service: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    user: str = "",
    working_dir: str = "",
    no_tty: bool = False,
    project: Project | None = None,
) -> None:
    from stockhelper_cli import terminal
    from stockhelper_cli.status import running_container

    project = project or invocation.project([service], creates=False)
    tty = terminal.is_terminal() and not no_tty
    with invocation.engine() as engine:
        container = running_container(project, engine, service)
        session = engine.open(
            container.id,
            command,
            tty=tty,
            stdin=True,
            environment=environment,
            user=user,
            working_dir=working_dir,
        )
        code = terminal.attach(session, terminal=tty)
    raise typer.Exit(code)


def _assignment(entry: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Read KEY=VALUE; a bare KEY takes this shell's value, as `docker compose exec -e` does."""
    key, equals, value = entry.partition("=")
    return key, value if equals else environ.get(key, "")
