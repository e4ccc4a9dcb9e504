"""`stockhelper version` and `completion`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated

import typer

from stockhelper_cli import __version__
from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import StockhelperError

#: The Compose whose labels and hashes are written.
COMPOSE_VERSION = "2.40"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "completion", shared=False)(completion)
    verb(app, "version")(version)


def version(invocation: Invocation) -> None:
    """Show the versions of stockhelper, the engine and its API, and the Compose it is compatible with."""
    rows = {"stockhelper": __version__, "python": sys.version.split()[0], "compose": COMPOSE_VERSION}
    try:
        with invocation.engine() as engine:
            info = engine.info()
        rows |= {"engine": info.version, "api": ".".join(map(str, info.api_version))}
    except StockhelperError as error:
        rows |= {"engine": f"none ({error.message})"}
    invocation.console.succeed("version", rows, lambda show: _render(rows, show))


def _render(rows: Mapping[str, str], show: Callable[..., None]) -> None:
    for name, value in rows.items():
        show(f"{name:<12} {value}")


class Shell(StrEnum):
    """The shells that completion is written for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(invocation: Invocation, shell: Annotated[Shell, typer.Argument()]) -> None:
    """Print the completion script of a shell, e.g. for: source <(stockhelper completion bash)."""
    # Typer re-exports it without saying so.
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(get_completion_script(prog_name="stockhelper", complete_var="_STOCKHELPER_COMPLETE", shell=shell.value))
