"""`stack.writes`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning
from stockhelper_cli.doctor.context import CALL_SECONDS
from stockhelper_cli.errors import EngineError, NotFound

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

#: Bytes that somebody will miss, or the disk.
_MUCH: Final = 100_000_000


class StackWrites(Check):
    """Measures what services have written beside their volumes, which goes when their containers are replaced."""

    id = "stack.writes"
    group = Group.STACK
    title = "services keep what they write in volumes"
    needs = ("engine.answers",)
    seconds = CALL_SECONDS + 2.0  # the engine looks at each file, and there may be many
    explains = frozenset({"disk.full"})

    def examine(self, context: Context) -> Finding:
        """Measure each container that can write at all."""
        containers = [(name, state.container) for name, state in context.services.states.items()]
        there = {name: container for name, container in containers if container is not None}
        if not there:
            return skipped("the stack is not up")
        writing = {
            name: container.id
            for name, container in there.items()
            if not container.settings["HostConfig"].get("ReadonlyRootfs")
        }
        if not writing:
            return ok("all file systems are read-only")
        with ThreadPoolExecutor(len(writing)) as pool:
            sizes = dict(zip(writing, pool.map(lambda id: _written(context, id), writing.values()), strict=True))
        told = ", ".join(
            f"{name} {size / 1e6:.0f} MB" if size is not None else f"{name} more than can soon be measured"
            for name, size in sizes.items()
        )
        much = [name for name, size in sizes.items() if size is not None and size > _MUCH]
        if not much:
            return ok(told)
        return warning(
            f"written outside of any volume: {told}",
            f"what {', '.join(much)} wrote there is gone when up replaces the container; until then it fills the disk",
            remedy="give the service a volume for what it keeps and a tmpfs for what it does not, and read_only: true;"
            " see what it is:",
            commands=[f"docker diff {writing[name][:12]}" for name in much],
        )


def _written(context: Context, container: str) -> int | None:
    """Return how many bytes a container has written, None where the engine does not tell in time."""
    try:
        return context.engine.written_bytes(container)
    except NotFound:  # it has just gone
        return 0
    except EngineError as error:
        if error.code != "engine.timeout":
            raise
        return None
