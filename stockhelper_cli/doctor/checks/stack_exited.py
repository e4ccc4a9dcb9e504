"""`stack.exited`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.converge.ready import how_it_ended
from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped
from stockhelper_cli.doctor.services import Fault, last_lines

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.services import ServiceState
    from stockhelper_cli.findings import Finding


class StackExited(Check):
    """Looks for containers that ended without being asked to, or could not be started."""

    id = "stack.exited"
    group = Group.STACK
    title = "no service has failed"
    needs = ("engine.answers",)
    explains = frozenset({"service.exited", "service.unhealthy", "migration.failed"})

    def examine(self, context: Context) -> Finding:
        """Look at how each ended."""
        services = context.services
        if not services.up:
            return skipped("the stack is not up")
        exited = services.with_fault(Fault.EXITED)
        if not exited:
            return ok("none")
        return failed(
            "; ".join(f"{state.service.name} {_how(state)}" for state in exited),
            *(line for state in exited for line in last_lines(context.engine, state)),
            commands=[*(f"stockhelper logs {state.service.name}" for state in exited), "stockhelper up"],
        )


def _how(state: ServiceState) -> str:
    container = state.container
    assert container is not None
    if container.error:
        return f"could not be started: {container.error}"
    return f"ended: {how_it_ended(container)}"
