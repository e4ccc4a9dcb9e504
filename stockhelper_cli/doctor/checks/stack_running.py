"""`stack.running`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped
from stockhelper_cli.doctor.services import DOWN, Fault

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding


class StackRunning(Check):
    """Looks for services that do not run though others do; a stack that is down as a whole is meant to be."""

    id = "stack.running"
    group = Group.STACK
    title = "every service runs, or has done its work"
    needs = ("stack.names",)
    fixes = "starts what does not run, as `up` does"
    mends_by_up = True

    def examine(self, context: Context) -> Finding:
        """Look at each service's container."""
        services = context.services
        if not services.up:
            there = any(state.container for state in services.states.values())
            return skipped(f"the stack is {'stopped' if there else 'down'}; stockhelper up brings it up")
        idle = services.with_fault(*DOWN, Fault.PAUSED)
        waiting = {state.service.name: root for state in idle if (root := services.held_up_by(state))}
        told = [f"{name} was not started, because {root} failed" for name, root in waiting.items()]
        named = [state for state in idle if state.service.name not in waiting]
        if not named:
            running = [
                name for name, state in services.states.items() if state not in idle and state.fault is Fault.NONE
            ]
            return ok(", ".join(running) or "none", *told)
        return failed(
            "; ".join(f"{state.service.name} {state.fault}" for state in named),
            *told,
            commands=["stockhelper up"],
            fix="bring the stack up",
        )

    def mend(self, context: Context, emit: Emit) -> None:
        """Bring it up."""
        from stockhelper_cli import stack

        stack.up(context.load_project(), context.engine, stack.UpOptions(), emit)
