"""What each module of the tests costs, in seconds that hardly depend on how busy the machine is.

Counted are the processor seconds of the process that runs a test and of its children, and, for what the engine does
meanwhile, 3 for each fresh stack and 1 for each further `up` that changes something. `tests/budgets.json` holds what a
tier and each of its modules may cost, with 30 % of room over what was measured; `make check-budget` compares it with
the last whole runs.

`python -m tests.support.budgets check` fails for what costs more, and for a module that has no budget yet;
`python -m tests.support.budgets write` makes the file from the last whole runs.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypedDict

from tests.support import ROOT

FILE: Final = ROOT / "tests" / "budgets.json"
#: Where a whole run of a tier leaves what it has measured.
MEASURED: Final = ROOT / ".cache" / "tests"
TIERS: Final = ("test", "slow")
FRESH_STACK_SECONDS: Final = 3.0
CHANGING_UP_SECONDS: Final = 1.0
#: What a test may cost in `make test` without a reason beside it.
LONG_SECONDS: Final = 12.0
#: What stands for all modules of a tier.
ALL: Final = "all"
_ROOM: Final = 1.3
#: Which module pays for what a whole session shares (a server, a stack) is a matter of chance.
_SHARED_SECONDS: Final = 10.0

#: Stack → the times that an `up` changed something of it, in this process.
_ups: Counter[str] = Counter()


class Measured(TypedDict):
    """What a whole run of a tier has measured: counted seconds by module, and of long tests without a reason."""

    modules: dict[str, float]
    long: dict[str, float]


def charge_up(stack: str) -> None:
    """Count an `up` that changed something; the first one of a stack is a fresh one."""
    _ups[stack] += 1


class Meter:
    """Counts the seconds of this process."""

    def __init__(self) -> None:
        self._last = self._now()

    def lap(self) -> float:
        """Return the seconds counted since the last call."""
        before, self._last = self._last, self._now()
        return self._last - before

    @staticmethod
    def _now() -> float:
        used = os.times()
        engine = len(_ups) * FRESH_STACK_SECONDS + (_ups.total() - len(_ups)) * CHANGING_UP_SECONDS
        return used.user + used.system + used.children_user + used.children_system + engine


@dataclass(slots=True)
class Costs:
    """What the tests of a run have cost."""

    counted: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    long: dict[str, float] = field(default_factory=dict)

    def add(self, test: str, wall: float, counted: float) -> None:
        """Add a phase of a test."""
        module = test.partition("::")[0]
        self.wall[module] += wall
        self.counted[module] += counted

    def table(self, most: int = 25) -> Iterable[str]:
        """Yield lines for the modules that took longest, and one for all."""
        yield f"{'wall':>8}{'counted':>9}"
        for module in sorted(self.wall, key=lambda each: -self.wall[each])[:most]:
            yield f"{self.wall[module]:7.1f}s{self.counted[module]:8.1f}s  {module}"
        yield f"{sum(self.wall.values()):7.1f}s{sum(self.counted.values()):8.1f}s  all {len(self.wall)} modules"

    def save(self, tier: str) -> None:
        """Leave what was measured for `make check-budget`."""
        measured = Measured(
            modules={module: round(seconds, 1) for module, seconds in sorted(self.counted.items())}, long=self.long
        )
        MEASURED.mkdir(parents=True, exist_ok=True)
        (MEASURED / f"{tier}.json").write_text(json.dumps(measured, indent=1) + "\n")


def read() -> Mapping[str, Mapping[str, int]]:
    """Return tier → module, or `ALL` → the seconds that it may cost."""
    budgets: dict[str, dict[str, int]] = json.loads(FILE.read_text())
    return budgets


def _measured() -> Mapping[str, Measured]:
    files = {tier: MEASURED / f"{tier}.json" for tier in TIERS}
    missing = [tier for tier in TIERS if not files[tier].exists()]
    if missing:
        sys.exit(f"error: no whole run of {' and '.join(missing)}\n  next: make test test-slow")
    return {tier: json.loads(file.read_text()) for tier, file in files.items()}


def over(budgets: Mapping[str, Mapping[str, int]], runs: Mapping[str, Measured]) -> Iterable[str]:
    """Yield a line for each budget that is exceeded or missing, and for each long test without a reason."""
    for tier, measured in runs.items():
        for module, seconds in [*measured["modules"].items(), (ALL, round(sum(measured["modules"].values()), 1))]:
            allowed = budgets[tier].get(module)
            if allowed is None:
                yield f"{tier}: {module} has no budget: it costs {seconds} s"
            elif seconds > allowed:
                yield f"{tier}: {module} costs {seconds} s, and may cost {allowed} s"
        if tier == "test":
            for test, seconds in measured["long"].items():
                yield f"{test} costs {seconds} s: mark it slow, or long with the reason"


def budgets_for(measured: Measured) -> dict[str, int]:
    """Return what the modules that were measured may cost, and all of them together."""
    modules = measured["modules"]
    may = {module: round(max(seconds * _ROOM, seconds + _SHARED_SECONDS)) for module, seconds in modules.items()}
    return {ALL: round(sum(modules.values()) * _ROOM), **may}


def main() -> None:
    """Run the command of the module's docstring."""
    if sys.argv[1:] == ["write"]:
        budgets = {tier: budgets_for(measured) for tier, measured in _measured().items()}
        FILE.write_text(json.dumps(budgets, indent=1) + "\n")
    elif sys.argv[1:] == ["check"]:
        if exceeded := [f"error: {line}" for line in over(read(), _measured())]:
            how = f"  next: make them cheaper, or change {FILE.relative_to(ROOT)} and say why in the commit"
            sys.exit("\n".join([*exceeded, how]))
    else:
        sys.exit("usage: python -m tests.support.budgets check | write")


if __name__ == "__main__":
    main()
