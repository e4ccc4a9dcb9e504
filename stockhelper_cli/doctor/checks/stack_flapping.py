"""`stack.flapping`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

#: So many times among the few checks that the engine remembers must a service have got worse: once may happen.
_OFTEN: Final = 2


class StackFlapping(Check):
    """Looks at the health checks before the last one: what fails now and then is well whenever one looks."""

    id = "stack.flapping"
    group = Group.STACK
    title = "no service passes its health check only now and then"
    needs = ("engine.answers",)

    def examine(self, context: Context) -> Finding:
        """Count how often each came to fail after it had passed; one that is unhealthy is told of as that."""
        healths = {
            name: state.container.health
            for name, state in context.services.states.items()
            if state.container is not None and state.container.running and state.container.health is not None
        }
        if not healths:
            return skipped("no service runs that has a check")
        worse = {
            name: sum(before and not after for before, after in pairwise(health.passed))
            for name, health in healths.items()
            if health.status != "unhealthy"
        }
        flapping = [name for name, times in worse.items() if times >= _OFTEN]
        told = {
            name: f"{health.passed.count(False)} of its last {len(health.passed)} checks failed"
            for name, health in healths.items()
        }
        if not flapping:
            return ok("none", *(f"{name}: {told[name]}" for name, times in worse.items() if times))
        return warning(
            "; ".join(f"{name} is healthy only now and then: {told[name]}" for name in flapping),
            "the next up, and what depends on it, may find it unhealthy",
            commands=[f"stockhelper logs {name}" for name in flapping],
        )
