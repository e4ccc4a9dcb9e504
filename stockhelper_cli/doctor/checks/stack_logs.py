"""`stack.logs`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.engine.protocol import Container
    from stockhelper_cli.findings import Finding

#: The one driver of the engine's that keeps logs on its disk and lets them grow unless it is told how far.
_UNBOUNDED: Final = "json-file"


class StackLogs(Check):
    """Looks whether the engine bounds what services print, and how much there is of it."""

    id = "stack.logs"
    group = Group.STACK
    title = "what services print cannot fill the disk"
    needs = ("engine.answers",)
    explains = frozenset({"disk.full"})

    def examine(self, context: Context) -> Finding:
        """Look at the log driver of each container, as the engine has it."""
        containers = {
            name: state.container for name, state in context.services.states.items() if state.container is not None
        }
        if not containers:
            return skipped("the stack is not up")
        sizes = {name: _size(container) for name, container in containers.items() if context.state.local}
        told = [f"{name}: {size / 1e6:.1f} MB" for name, size in sizes.items() if size is not None]
        growing = [name for name, container in containers.items() if _grows(container)]
        if not growing:
            return ok(", ".join(told) or "the engine bounds them all")
        return warning(
            f"the log of {', '.join(growing)} grows without bounds",
            *told,
            "a full disk stops PostgreSQL",
            remedy="give the service logging: {driver: json-file, options: {max-size: 10m, max-file: '3'}}, then:",
            commands=["stockhelper up"],
        )


def _grows(container: Container) -> bool:
    log = container.settings["HostConfig"].get("LogConfig") or {}
    return log.get("Type") == _UNBOUNDED and "max-size" not in (log.get("Config") or {})


def _size(container: Container) -> int | None:
    """Return how many bytes a log and its former parts have, None where this user may not look."""
    path = Path(container.log_path)
    if not container.log_path:
        return None
    with suppress(OSError):
        return sum(part.stat().st_size for part in path.parent.iterdir() if part.name.startswith(path.name))
    return None
