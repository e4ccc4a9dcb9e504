"""`stack.restarting`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.converge.ready import how_it_ended
from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped
from stockhelper_cli.doctor.services import Fault, last_lines

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.services import ServiceState
    from stockhelper_cli.findings import Finding


class StackRestarting(Check):
    """Looks at how often the engine had to start containers again, and whether it still has to."""

    id = "stack.restarting"
    group = Group.STACK
    title = "no service is started again and again"
    needs = ("engine.answers",)
    explains = frozenset({"service.exited", "service.unhealthy"})

    def examine(self, context: Context) -> Finding:
        """Look at the restart counts."""
        services = context.services
        if not services.up:
            return skipped("the stack is not up")
        restarting = services.with_fault(Fault.RESTARTING)
        if restarting:
            return failed(
                "; ".join(_loop(state) for state in restarting),
                *(line for state in restarting for line in last_lines(context.engine, state)),
                commands=[f"stockhelper logs {state.service.name}" for state in restarting],
            )
        before = [
            f"{name} was started again {_times(state.container.restart_count)} since {name} was brought up"
            for name, state in services.states.items()
            if state.container is not None and state.container.restart_count
        ]
        return ok("none", *before)


def _loop(state: ServiceState) -> str:
    container = state.container
    assert container is not None
    told = f"{state.service.name} {state.fault} ({_times(container.restart_count)} so far)"
    # While it runs the engine tells no exit code.
    return told if container.running else f"{told}: {how_it_ended(container)}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
