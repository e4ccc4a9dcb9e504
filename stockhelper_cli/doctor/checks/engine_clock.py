"""`engine.clock`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, ok, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

#: Seconds; the answer itself may take a while.
_TOLERATED: Final = 30.0


class EngineClock(Check):
    """Compares the engine's clock with this machine's: a virtual machine that slept may be hours behind."""

    id = "engine.clock"
    group = Group.ENGINE
    title = "the engine's clock goes as this machine's"
    needs = ("engine.reachable",)

    def examine(self, context: Context) -> Finding:
        """Ask for the time there."""
        there = context.info.clock
        if there is None:
            return ok("the engine does not tell its time")
        seconds = (there - datetime.now(UTC)).total_seconds()
        if abs(seconds) <= _TOLERATED:
            return ok(f"{abs(seconds):.1f} s apart")
        word = "ahead of" if seconds > 0 else "behind"
        return warning(
            f"the engine's clock is {abs(seconds):.0f} s {word} this machine's",
            "certificates may count as expired or not yet valid, and what is written gets wrong times",
            remedy="set the clock, or restart the machine in which the engine runs",
        )
