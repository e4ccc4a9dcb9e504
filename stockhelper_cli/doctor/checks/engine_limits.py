"""`engine.limits`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, ok, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class EngineLimits(Check):
    """Asks whether the limits of the compose files hold: an engine without the kernel's means ignores them."""

    id = "engine.limits"
    group = Group.ENGINE
    title = "the engine can limit memory and processes"
    needs = ("engine.reachable",)

    def examine(self, context: Context) -> Finding:
        """Ask which limits it lacks; swap alone matters little."""
        lacks = context.info.lacks
        if not set(lacks) - {"swap"}:
            return ok("it cannot limit swap" if lacks else "memory, swap and processes")
        return warning(
            f"the engine cannot limit {', '.join(lacks)}",
            "one container that grows takes the whole machine with it, the database too",
            remedy="boot the kernel with its memory and pids control groups (cgroup_enable=memory), or use a newer one",
        )
