"""`stockhelper setup`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from stockhelper_cli.commands import init
from stockhelper_cli.commands.context import Invocation, verb

if TYPE_CHECKING:
    from stockhelper_cli.machine.setup import SetupResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "setup")(setup)


def setup(invocation: Invocation) -> None:
    """Make this machine ready: engine, .env, private roots, base images."""
    from stockhelper_cli.machine import setup as machine

    root = invocation.root()

    def confirm(question: str) -> None:
        invocation.confirm(question, "yes")

    with invocation.console.progress() as emit:
        result = machine.setup(root, environ=invocation.environ, emit=emit, confirm=confirm)
    invocation.console.succeed("setup", _as_json(result), lambda show: _render(result, show))


def _as_json(result: SetupResult) -> dict[str, Any]:
    return {
        "changed": result.changed,
        "engine": {
            "url": result.engine.endpoint.url,
            "source": result.engine.endpoint.source,
            "how": result.engine.how.value,
            "started_by": result.engine.started_by,
        },
        "env": init.as_json(result.env),
        "roots": {"present": list(result.roots.present), "changed": result.roots.changed},
        "images": [
            {"key": image.key, "reference": image.reference, "how": image.how.value, "recorded": image.recorded}
            for image in result.images
        ],
    }


def _render(result: SetupResult, show: Callable[..., None]) -> None:
    from stockhelper_cli.console import paint

    engine = result.engine
    by = f" by {engine.started_by}" if engine.started_by else ""
    show(paint(f"engine  {engine.how.value}{by}: {engine.endpoint.url} ({engine.endpoint.source})"))
    init.render(result.env, show)
    roots = len(result.roots.present)
    show(paint(f"roots   {roots or 'no'} private root certificate{'' if roots == 1 else 's'} for the build"))
    for image in result.images:
        recorded = ", recorded in .env" if image.recorded else ""
        show(paint(f"image   {image.reference} {image.how.value}{recorded}"))
