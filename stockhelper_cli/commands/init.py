"""`stockhelper init`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from stockhelper_cli.commands.context import Invocation, verb

if TYPE_CHECKING:
    from stockhelper_cli.machine.init_env import EnvResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "init")(init)


def init(invocation: Invocation) -> None:
    """Write .env with random secrets, unless there is one."""
    from stockhelper_cli.machine.init_env import init_env

    result = init_env(invocation.root())
    invocation.console.succeed("init", as_json(result), lambda show: render(result, show))


def as_json(result: EnvResult) -> dict[str, Any]:
    """Return what became of .env as a plain mapping."""
    return {
        "path": str(result.path),
        "created": result.created,
        "generated": list(result.generated),
        "missing": list(result.missing),
    }


def render(result: EnvResult, show: Callable[..., None]) -> None:
    """Say what became of .env."""
    from stockhelper_cli.console import paint

    if result.created:
        show(paint(".env    written, with random secrets for ", ", ".join(result.generated)))
    else:
        show(paint(".env    found, left as it is"))
    for key in result.missing:
        show(paint(("        new in .env.example: ", "yellow"), key))
