"""`engine.memory`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockhelper_cli.converge.reconcile import is_one_shot
from stockhelper_cli.doctor.check import Check, Group, ok, warning
from stockhelper_cli.doctor.limits import limits_of

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

#: Bytes with which the kernel can still give something to everybody.
_LITTLE: Final = 200_000_000
_MEMINFO: Final = Path("/proc/meminfo")


class EngineMemory(Check):
    """Compares the memory of the engine's machine with what the services may use, and with what is free of it."""

    id = "engine.memory"
    group = Group.ENGINE
    title = "there is memory for what the services may use"
    needs = ("engine.answers",)
    explains = frozenset({"service.exited", "service.unhealthy"})

    def examine(self, context: Context) -> Finding:
        """Add up the limits of the services that run at the same time."""
        whole = context.info.memory
        if not whole:
            return ok("the engine does not tell how much it has")
        wanted = {
            name: limits_of(context.project, service, context.info.api_version).memory
            for name, service in context.project.services.items()
            if not is_one_shot(context.project, service)
        }
        free = _available() if context.info.local else None
        told = f"{_gigabytes(whole)} in all" + (f", {_gigabytes(free)} free" if free is not None else "")
        shares = ", ".join(f"{name} up to {_gigabytes(bytes)}" for name, bytes in wanted.items() if bytes)
        if sum(wanted.values()) > whole:
            return warning(
                f"the services may use {_gigabytes(sum(wanted.values()))} together, and the engine's machine has"
                f" {_gigabytes(whole)}",
                shares,
                "when they do, the kernel kills what it likes, and that may be the database",
                remedy="lower DB_MEMORY or APP_MEMORY in .env, or give the machine more memory",
            )
        if free is not None and free < _LITTLE:
            return warning(
                f"{_gigabytes(free)} of memory are free",
                "what starts next may be killed by the kernel, or what runs, the database too",
                remedy="end what else runs on the machine, or give it more memory:",
                commands=["docker stats --no-stream"],
            )
        return ok(told, shares)


def _available() -> int | None:
    """Return how much memory of this machine can be had without swapping; None where the kernel does not tell."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return None
    return int(found[1]) * 1024 if found else None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
