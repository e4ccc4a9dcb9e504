"""The verbs and options that the command line has, read from the Typer app itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.main import get_command

from stockhelper_cli.main import app


def verbs(*, hidden: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield each verb and its command; a verb of a group has the name of the group before it."""
    command = get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    context = typer.Context(command)
    for name in command.list_commands(context):
        verb = command.get_command(context, name)
        assert verb is not None, f"the module of {name} does not add it"
        if verb.hidden and not hidden:
            continue
        if isinstance(verb, typer.core.TyperGroup):
            yield from ((f"{name} {inner}", own) for inner, own in verb.commands.items())
        else:
            yield name, verb


def options(command: Any) -> dict[str, frozenset[str]]:
    """Return the name of each option of a command, and how it can be typed."""
    return {
        parameter.name: frozenset({*parameter.opts, *parameter.secondary_opts})
        for parameter in command.params
        if parameter.param_type_name == "option"
    }


def global_options() -> dict[str, frozenset[str]]:
    """Return the options that may be typed before a verb."""
    return options(get_command(app))
