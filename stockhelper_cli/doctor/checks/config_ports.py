"""`config.ports`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.converge.ports import busy_ports
from stockhelper_cli.doctor.check import Check, Group, failed, failure_of, ok, skipped

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class ConfigPorts(Check):
    """Tries the ports that the stack publishes, as `up` does."""

    id = "config.ports"
    group = Group.CONFIGURATION
    title = "the published ports are free, or the stack's own"
    needs = ("engine.answers",)
    explains = frozenset({"port.busy"})

    def examine(self, context: Context) -> Finding:
        """Try each."""
        project, state = context.project, context.state
        if not state.local:
            return skipped("the engine is on another machine: its ports cannot be tried from here")
        errors = list(busy_ports(project, context.engine, state, list(project.services.values())))
        if len(errors) == 1:
            return failure_of(errors[0])
        if errors:
            told = [f"{error.message}: {error.cause}" for error in errors]
            return failed(f"{len(errors)} ports are taken", *told, commands=[error.next[0] for error in errors])
        ports = [f"{port.host_ip or '*'}:{port.published}" for s in project.services.values() for port in s.ports]
        return ok(", ".join(ports) or "none is published")
