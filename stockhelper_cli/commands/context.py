"""What every verb shares: the global options, the way to the project and the engine, and the verb's own frame."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from stockhelper_cli.console import Console
from stockhelper_cli.errors import ConfigError, StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.age import Identity
    from stockhelper_cli.compose import Project
    from stockhelper_cli.compose.dotenv import Dotenv
    from stockhelper_cli.engine.protocol import Engine
    from stockhelper_cli.events import Emit

SettingsCheck: TypeAlias = "Callable[[Mapping[str, str], Dotenv | None], object]"

#: What marks a project's root.
MARK: Final = Path("compose") / "compose.yaml"


@dataclass(slots=True)
class Invocation:
    """One call of the command: what was said before the verb, and `--json`, `--quiet` and `--yes` from anywhere."""

    directory: Path = field(default_factory=Path.cwd)
    project_name: str | None = None
    files: tuple[Path, ...] = ()
    env_file: Path | None = None
    verbose: bool = False
    yes: bool = False
    command: str = ""
    console: Console = field(default_factory=Console)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def root(self) -> Path:
        """Return the project's root: the folder at or above the directory that holds `compose/compose.yaml`.

        Raises `ConfigError` (config.project) if there is none; with `--file` or COMPOSE_FILE it is the directory.
        """
        if not self.directory.is_dir():
            raise ConfigError("config.project", f"{self.directory} is not a folder")
        start = self.directory.resolve()
        for folder in (start, *start.parents):
            if (folder / MARK).is_file():
                return folder
        if self.files or self.environ.get("COMPOSE_FILE"):
            return start
        raise ConfigError(
            "config.project",
            f"no {MARK} here or in a folder above",
            cause=f"looked from {start} upwards",
            next=["stockhelper -C PATH-TO-THE-PROJECT " + self.command],
        )

    def project(
        self,
        services: Sequence[str] = (),
        *,
        overrides: Sequence[Path] = (),
        check: SettingsCheck | None = None,
        creates: bool = True,
    ) -> Project:
        """Load the project and check its settings.

        `services` are those that the user named: their profiles are active. `overrides` are further compose files,
        relative to the root.

        `check` looks at the settings in the usual check's place. Not with `creates`, for a verb that makes nothing of
        the settings, a bad one is told where the stack cannot be read for it, and only there: to import what checks
        them takes longer than such a verb itself, and what runs can be looked at and stopped whatever they say.
        Raises `ConfigError`.
        """
        from stockhelper_cli import compose

        root = self.root()
        if self.env_file is None and not (root / ".env").exists():
            raise ConfigError(
                "config.env_missing",
                f"{root / '.env'} is not there",
                cause="it holds the passwords and settings of the stack",
                next=["stockhelper init"],
            )

        if self.env_file is None and (root / ".env").is_dir():
            # Compose passes over it and goes on without any setting.
            raise ConfigError("config.env", ".env: is a folder, not a file", next=["rmdir .env", "stockhelper init"])

        load = functools.partial(
            compose.load,
            root,
            env_files=[self.directory / self.env_file] if self.env_file else (),
            project_name=self.project_name,
            enable=services,
            environ=self.environ,
        )
        files = [self.directory / file for file in self.files]
        if not creates:
            with suppress(ConfigError):  # told below, by the name of the setting where that is what is bad
                return load(files=files)
        if check is None:
            from stockhelper_cli.settings import load_settings

            check = load_settings
        project = load(files=files, check=check)
        if overrides:
            project = load(files=[*project.files, *(root / file for file in overrides)], check=check)
        return project

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Connect to the engine for as long as the block lasts. Raises `EngineError` (engine.…)."""
        from stockhelper_cli.engine.endpoints import find

        endpoint = find(self.environ)
        from stockhelper_cli.engine.docker_engine import connect

        engine = connect(endpoint)
        try:
            yield engine
        finally:
            engine.close()

    @contextmanager
    def progress(self, project: Project) -> Iterator[Emit]:
        """Show what happens within the block, a project's own warnings first."""
        from stockhelper_cli.events import Warned

        with self.console.progress() as emit:
            for warning in project.warnings:
                emit(Warned(warning))
            yield emit

    def identities(self, files: Sequence[Path]) -> list[Identity]:
        """Return the private keys in files; `-` is stdin, so that a key need not be on this machine's disk.

        Raises `StockhelperError` (backup.identity).
        """
        import sys

        from stockhelper_cli import age

        found: list[Identity] = []
        for file in files:
            try:
                content = sys.stdin.buffer.read() if file == Path("-") else (self.directory / file).read_bytes()
            except OSError as error:
                why = error.strerror or str(error)
                raise StockhelperError("backup.identity", f"{file} cannot be read", cause=why) from error
            found += age.identities(content, "stdin" if file == Path("-") else str(file))
        return found

    def confirm(self, question: str, expected: str) -> None:
        """Ask for a word on a terminal before something is lost; `--yes` answers it.

        Raises `StockhelperError` (confirmation) without a terminal, or when another word is typed.
        """
        if self.yes:
            return
        import sys

        if not sys.stdin.isatty() or self.console.json:
            raise StockhelperError(
                "confirmation", question, cause="there is no terminal to confirm it on", next=["the same with --yes"]
            )
        try:
            answer = typer.prompt(f"{question}\nType {expected} to go on", default="", show_default=False, err=True)
        except typer.Abort:  # Ctrl-D
            typer.echo(err=True)
            answer = ""
        if answer.strip() != expected:
            raise StockhelperError("confirmation", "not confirmed; nothing was done")


def _set_json(context: typer.Context, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).console.json = True


def _set_quiet(context: typer.Context, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).console.quiet = True


def _set_yes(context: typer.Context, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).yes = True


Json = Annotated[bool, typer.Option("--json", callback=_set_json, help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_set_quiet, help="No progress, no messages.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", callback=_set_yes, help="Answer every question with yes.")]


def service_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the services whose names begin so, for a shell that completes; none where the project cannot be read."""
    given = context.find_root().params
    invocation = Invocation(directory=given.get("directory") or Path.cwd(), files=tuple(given.get("file") or ()))
    try:
        return [name for name in invocation.project().services if name.startswith(incomplete)]
    except StockhelperError:
        return []


Service = Annotated[str, typer.Argument(metavar="SERVICE", autocompletion=service_names)]
Services = Annotated[
    list[str] | None, typer.Argument(metavar="[SERVICE]...", show_default=False, autocompletion=service_names)
]
Identities = Annotated[
    list[Path] | None,
    typer.Option(
        "--identity", "-i", metavar="FILE", show_default=False, help="Private keys of an encrypted one (-: stdin)."
    ),
]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="How long waiting for health may take.")]


def checked_timeout(seconds: float) -> float:
    """Return a time limit. Raises `StockhelperError` (usage) for one that is no positive number of seconds."""
    if not 0 < seconds < float("inf"):
        raise StockhelperError("usage", f"--timeout must be more than 0 seconds, and is {seconds:g}")
    return seconds


_SHARED: Final = (
    inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json),
    inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet),
    inspect.Parameter("yes", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Yes),
)


def verb(
    app: typer.Typer, name: str, *aliases: str, shared: bool = True, command: str = "", **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a verb: a function of the invocation and its own options.

    The options that may stand before or after the verb are added here, once for all verbs, so that each verb's help
    shows them; not with `shared` false, for verbs whose further words belong to a child's command line. `command` is
    the whole name of a verb in a group.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

        @functools.wraps(function)
        def run(*, context: typer.Context, **options: Any) -> None:
            invocation = context.ensure_object(Invocation)
            invocation.command = command or name
            # What is shared has told the invocation already.
            function(invocation, **{key: value for key, value in options.items() if key in signature.parameters})

        parameters = [context, *own, *(_SHARED if shared else ())]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, **settings)(run)
        for alias in aliases:
            app.command(alias, hidden=True, **settings)(run)
        return function

    return register
