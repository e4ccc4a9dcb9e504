"""The command `stockhelper`: the verbs, the global options, and the only place where exceptions end."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperGroup
from typer.main import get_group

from stockhelper_cli import __version__, streams
from stockhelper_cli.commands.context import Invocation, Json, Quiet, Yes
from stockhelper_cli.console import Console, show_cursor
from stockhelper_cli.errors import ExitCode, Interruption, StockhelperError

#: Signal -> the code of what it makes of a command.
_SIGNALS: Final = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
#: What a shell shows for a program that wrote to a pipe which nobody reads any more.
_NO_READER: Final = 128 + signal.SIGPIPE

#: Verb -> the module of `commands` that adds it, and a line for the list of verbs ("" keeps an alias out of it). The
#: list needs none of the modules; what a verb says of itself at length is in its own.
VERBS: Final = {
    "init": ("init", "Write .env with random secrets, unless there is one."),
    "setup": ("setup", "Make this machine ready: engine, .env, roots, base images."),
    "up": ("up", "Bring the stack up and wait until it is healthy."),
    "restart": ("run", "Restart services and wait until they are healthy."),
    "stop": ("run", "Stop services; their containers and data stay."),
    "start": ("run", "Start stopped services and wait until they are healthy."),
    "down": ("down", "Remove the containers and the network; the data stay."),
    "status": ("status", "Show the services: state, health, ports, image, uptime."),
    "ps": ("status", ""),
    "doctor": ("doctor", "Say what is wrong, what shows it, and what to type."),
    "logs": ("logs", "Show what the services print."),
    "exec": ("exec", "Run a command in a service's container."),
    "shell": ("exec", "Open a shell in a service's container."),
    "psql": ("exec", "Open psql on the stack's database, as its owner."),
    "migrate": ("migrate", "Migrate the database to the newest revision."),
    "backup": ("backup", "Make, list, verify, copy, schedule and prune backups."),
    "restore": ("restore", "Put a backup in the database's place."),
    "db": ("db", "Look after the database."),
    "data": ("data", "Bring bars into the database, from files or the provider."),
    "build": ("build", "Build the images of the stack."),
    "images": ("images", "List, pull, save and load the images of the stack."),
    "config": ("config", "Show the resolved stack, secrets masked."),
    "completion": ("version", "Print the completion script of a shell."),
    "version": ("version", "Show the versions of stockhelper, engine, API and Compose."),
}

#: What Typer raises for a wrong call; Click is vendored there, and this is its one name that is public.
_UsageError: Final = cast("type[Exception]", typer.BadParameter.__mro__[1])


class _WhenGiven:
    """Reads a parameter as Typer does, with what Typer makes for it only where there is something to read.

    Typer makes it of pydantic, whose import takes 100 ms, also where no value is given, or one that is a text and is
    to be a text. Where a later Typer has no such name, this does nothing.
    """

    def __init__(self, descriptor: Any) -> None:
        self._descriptor = descriptor
        self._made: Any = None

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if value is param.default or self._descriptor.annotation is str:
            return value
        if self._descriptor.annotation == list[str]:
            return list(value)
        self._made = self._made or _build_runtime_param(self._descriptor)
        return self._made.coerce(value, param=param, ctx=ctx)


_build_runtime_param: Final[Any] = getattr(typer.core, "build_runtime_param", None)
typer.core.build_runtime_param = _WhenGiven  # type: ignore[attr-defined, assignment]


class _Verbs(TyperGroup):
    """The group of the verbs. Each is imported when it is asked for: all together take longer than most of them."""

    def __init__(self, **settings: Any) -> None:
        # The names alone: what a mistyped verb is compared with.
        super().__init__(**{**settings, "commands": dict.fromkeys(VERBS)})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in VERBS and self.commands[cmd_name] is None:
            module, _ = VERBS[cmd_name]
            made = typer.Typer(rich_markup_mode=None)
            import_module(f"stockhelper_cli.commands.{module}").register(made)
            self.commands.update(get_group(made).commands)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items() if line])


app: Final = typer.Typer(
    name="stockhelper",
    cls=_Verbs,
    # Rich's help takes more than twice as long to import as all the rest.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(context: typer.Context, value: bool) -> None:
    if value:
        typer.echo(f"stockhelper {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    directory: Annotated[
        Path | None, typer.Option("--directory", "-C", metavar="DIR", help="Work as if started in DIR.")
    ] = None,
    project_name: Annotated[
        str | None, typer.Option("--project-name", "-p", metavar="NAME", help="The compose project's name.")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option("--file", "-f", metavar="FILE", help="A compose file; may be repeated.")
    ] = None,
    env_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Read this instead of .env.")] = None,
    profile: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A profile of services to switch on; may be repeated.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more when something fails.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours (as NO_COLOR does).")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    yes: Yes = False,
) -> None:
    """Take the stock assistant from a clone to a healthy, migrated stack, and keep it that way."""
    invocation = context.ensure_object(Invocation)
    if directory is not None:
        invocation.directory = directory
    invocation.project_name = project_name
    invocation.files = tuple(file or ())
    invocation.env_file = env_file
    if profile:
        # As Compose takes it: in place of what the variable says.
        invocation.environ = {**invocation.environ, "COMPOSE_PROFILES": ",".join(profile)}
    invocation.verbose = verbose
    if no_color:
        invocation.console.color = False


def main() -> None:
    """Run the command line of this process and exit with a code from the table in `errors`."""
    streams.settle()
    _heed_signals()
    code = run(sys.argv[1:])
    # All is said: from here on a signal just ends the process.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        # Python would wait for the threads that what was given up has left, and a dump, say, may wait for a lock.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    invocation = Invocation(console=Console(json="--json" in arguments))
    try:
        return _run(invocation, arguments)
    except streams.ResultLost as lost:
        streams.abandon_result()
        if lost.unread:
            return _NO_READER
        error = StockhelperError("failed", "could not write the result", cause=str(lost))
        # In words: its object would go where the result could not.
        return _fail(replace(invocation, console=replace(invocation.console, json=False)), error)


def _run(invocation: Invocation, arguments: Sequence[str]) -> int:
    try:
        if "_STOCKHELPER_COMPLETE" in os.environ:  # a shell asks what could come next
            from typer.completion import completion_init  # type: ignore[attr-defined]

            completion_init()
        # As `docker compose` does: nothing said is a question for help.
        result = app(list(arguments) or ["--help"], prog_name="stockhelper", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
        return result if isinstance(result, int) else ExitCode.DONE
    except streams.ResultLost:
        raise
    except StockhelperError as error:
        return _fail(invocation, error)
    except Interruption as interruption:
        return _fail(invocation, interruption.error)
    except _UsageError as error:
        return _fail(invocation, _usage(error))
    except Exception as error:  # noqa: BLE001 - the last resort: told as our own fault, with the trace on demand
        if invocation.verbose:
            traceback.print_exc()
        bug = StockhelperError(
            "failed",
            f"stockhelper failed: {type(error).__name__}: {error}",
            cause="this is a bug in stockhelper, not a mistake of yours",
            next=[
                " ".join(["stockhelper", "--verbose", *arguments]),
                "stockhelper doctor --report report.tar.gz, which gathers what a report of it needs, without secrets",
            ],
        )
        return _fail(invocation, bug)


def _fail(invocation: Invocation, error: StockhelperError) -> int:
    invocation.console.fail(invocation.command, error)
    return error.exit_code


def _usage(error: BaseException) -> StockhelperError:
    """Turn Typer's complaint into ours."""
    message = getattr(error, "format_message", lambda: str(error))()
    command = getattr(getattr(error, "ctx", None), "command_path", "stockhelper")
    return StockhelperError("usage", message, next=[f"{command} --help"])


def _heed_signals() -> None:
    """From now on let the first signal interrupt what is under way, and a second one end the process at once."""

    def leave(number: int, frame: FrameType | None) -> None:
        show_cursor()
        os._exit(128 + number)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, leave)
        streams.forget_result()
        code = _SIGNALS[signal.Signals(number)]
        raise Interruption(
            StockhelperError(
                code,
                f"{code}; what was started goes on running",
                cause="what was half done is taken up again by the same command",
                next=["stockhelper status"],
            )
        )

    for number in _SIGNALS:
        signal.signal(number, interrupt)
