"""`stack.leftovers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.converge.reconcile import is_one_shot
from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding


class StackLeftovers(Check):
    """Looks for what a killed command has left: second containers of a service, what never started, ended one-offs.

    The next `up` finishes it; that is in no hurry until two of them run side by side.
    """

    id = "stack.leftovers"
    group = Group.STACK
    title = "no service runs twice because a change of it was broken off"
    needs = ("stack.names",)
    fixes = "finishes the change, as `up` does"
    mends_by_up = True

    def examine(self, context: Context) -> Finding:
        """Look at all containers of each service."""
        own = {name: context.state.of_service(name) for name in context.project.services}
        if not any(own.values()):
            return skipped("the stack is not up")
        twice = {
            name: [container for container in containers if container.alive]
            for name, containers in own.items()
            if not is_one_shot(context.project, context.project.services[name])
        }
        twice = {name: alive for name, alive in twice.items() if len(alive) > 1}
        if twice:
            return warning(
                "; ".join(f"{name} runs {len(alive)} times" for name, alive in twice.items()),
                *(f"{container.name} is {container.status}" for alive in twice.values() for container in alive),
                "an up was killed while it replaced a container, and which of them is asked is left to chance",
                commands=["stockhelper up"],
                fix="finish the change that was broken off: bring the stack up",
            )
        ended = [
            f"{container.name} ({container.status}) is left of a command that was killed; the next up removes it"
            for container in context.state.leftovers
            if not container.alive  # else a `db upgrade` is at work
        ]
        left = [
            f"{container.name} ({container.status}) is left of a change that was broken off; the next up finishes it"
            for name, containers in own.items()
            for container in containers
            if container.name != context.project.services[name].container_name
        ]
        new = [
            f"{containers[0].name} was made and never started; the next up starts it"
            for containers in own.values()
            if len(containers) == 1 and containers[0].status == "created" and not containers[0].error
        ]
        return ok("none" if not (ended or left or new) else "nothing that is in the way", *ended, *left, *new)

    def mend(self, context: Context, emit: Emit) -> None:
        """Bring it up."""
        from stockhelper_cli import stack

        stack.up(context.load_project(), context.engine, stack.UpOptions(), emit)
