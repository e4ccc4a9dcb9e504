"""`stack.names`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, ok

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class StackNames(Check):
    """Plans the next `up`, which is refused where a name that it needs belongs to somebody else."""

    id = "stack.names"
    group = Group.STACK
    title = "the names of containers, networks and volumes are free, or the stack's own"
    needs = ("engine.answers",)
    explains = frozenset({"name.taken", "engine.conflict"})

    def examine(self, context: Context) -> Finding:
        """Plan it."""
        _ = context.plan
        project = context.project
        names = [service.container_name for service in project.services.values()]
        return ok(", ".join([*names, *(network.name for network in project.networks.values())]))
