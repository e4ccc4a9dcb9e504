"""`stack.current`."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from stockhelper_cli import labels
from stockhelper_cli.converge.plan import Kind
from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.engine.protocol import Container
    from stockhelper_cli.findings import Finding


class StackCurrent(Check):
    """Compares what runs with what the files say now; that they differ is no fault until data would be left behind."""

    id = "stack.current"
    group = Group.STACK
    title = "what runs is what the files say, or will be without losing sight of data"
    needs = ("stack.names",)

    def examine(self, context: Context) -> Finding:
        """Compare each service with its container, and the database's volume with the one that is wanted."""
        if not any(state.container for state in context.services.states.values()):
            return skipped("the stack is not up")
        left = _left_behind(context)
        if left:
            return warning(
                *left,
                remedy="give the volume its former name in the compose files, or take the data over:",
                commands=["stockhelper backup create", "stockhelper up", "stockhelper restore --latest"],
            )
        changed = [
            f"{action.service}: {action.cause}"
            for action in context.plan
            if action.kind is Kind.CREATE and action.replaces
        ]
        other = _other_files(context)
        if not changed:
            return ok("it is", *other)
        return ok(f"up would make {', '.join(_services(context))} anew", *changed, *other)


def _services(context: Context) -> list[str]:
    return [action.service for action in context.plan if action.kind is Kind.CREATE and action.replaces]


def _left_behind(context: Context) -> list[str]:
    """Return what is said of a database whose data lies where the files do not say; none if it does not."""
    database = context.database
    if database is None or database.container is None:
        return []
    mounted = {mount.target: mount for mount in database.container.mounts if mount.type == "volume"}
    for wanted in database.service.spec.get("volumes", ()):
        there = mounted.get(wanted["target"])
        if wanted["type"] != "volume" or there is None or "source" not in wanted:
            continue
        name = context.project.volumes[wanted["source"]].name
        if there.name != name:
            absent = "" if name in context.state.volumes else ", which is not there yet"
            return [
                f"{database.service.name} has its data in the volume {there.name}, and the files name {name}",
                f"the next up would start on {name}{absent}; what is in {there.name} would stay, out of sight",
            ]
    return []


def _other_files(context: Context) -> list[str]:
    """Return which other files the containers were made from, and by that what runs for development."""
    own = {str(file) for file in context.project.files}
    told = []
    for name, state in context.services.states.items():
        if state.container is None:
            continue
        others = [file for file in _files(state.container) if file not in own]
        if others:
            names = ", ".join(PurePath(file).name for file in others)
            development = " (up --dev)" if "compose.dev.yaml" in names else ""
            told.append(f"{name} was made with {names}{development}")
    return told


def _files(container: Container) -> list[str]:
    return [file for file in container.labels.get(labels.CONFIG_FILES, "").split(",") if file]
