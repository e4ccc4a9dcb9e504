"""`stack.orphans`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.converge.reconcile import orphans_of
from stockhelper_cli.doctor.check import Check, Group, ok, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class StackOrphans(Check):
    """Looks for containers of services that are no more, and whether one has a port that a service needs."""

    id = "stack.orphans"
    group = Group.STACK
    title = "no container of a former service is in the way"
    needs = ("engine.answers",)
    explains = frozenset({"port.busy"})

    def examine(self, context: Context) -> Finding:
        """Look at each."""
        project, state = context.project, context.state
        orphans = orphans_of(project, state)
        own = {
            (port.host_port, port.container.partition("/")[2])
            for name in project.services
            for container in state.of_service(name)
            if container.alive
            for port in container.ports
        }
        wanted = {
            (int(port.published), port.protocol)
            for service in project.services.values()
            for port in service.ports
            if port.published.isdigit()
        } - own
        in_the_way = [
            f"{orphan.name} has port {port.host_port}"
            for orphan in orphans
            if orphan.alive
            for port in orphan.ports
            if (port.host_port, port.container.partition("/")[2]) in wanted
        ]
        if in_the_way:
            return warning(
                "; ".join(sorted(set(in_the_way))),
                "it belongs to a service that is no more, and a service of the project is to have that port",
                commands=["stockhelper up --remove-orphans"],
            )
        names = [f"{orphan.name} ({orphan.status}) belongs to no service" for orphan in orphans]
        return ok("none" if not names else "stockhelper up --remove-orphans removes what is left", *names)
