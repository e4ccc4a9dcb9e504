"""`stockhelper build`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from stockhelper_cli.commands.context import Invocation, Services, verb
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.stack import RunResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "build")(build)


def build(
    invocation: Invocation,
    services: Services = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Take nothing from the build cache.")] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Take the newest base image from the registry.")] = False,
) -> None:
    """Build the images of the stack; `up` does so by itself where sources changed."""
    project = invocation.project(services or ())

    from stockhelper_cli import stack

    with invocation.engine() as engine, exclusive(engine.info().id, project.name), invocation.progress(project) as emit:
        result = stack.build(project, engine, tuple(services or ()), no_cache=no_cache, pull=pull, emit=emit)
    invocation.console.succeed("build", result.as_json(), lambda show: _render(result, show))


def _render(result: RunResult, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    for action in result.plan:
        show(paint(f"{action.resource} is built; ", ("stockhelper up", "cyan"), " puts it to work"))
    if not result.plan:
        show(paint(("Nothing to do: ", "bold"), "no service of the project is built."))
