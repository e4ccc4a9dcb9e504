"""How it is measured: all ways in turn, so that what the machine does besides hits each of them alike."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

#: What one run of a way took, by quantity: seconds, or bytes or requests in a second where the quantity says so.
Sample: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do a piece of work: how it is called, and what does it once on a stage and returns what it took."""

    name: str
    once: Callable[[Any], Sample]


@dataclass(frozen=True, slots=True)
class Against:
    """What a user would pick instead, and for each quantity the ratio of medians, ours / theirs, that we aim at.

    It is the most that it may be; of requests in a second, the least. None as an aim only shows the ratio. `bounds`
    says, by quantity, what bounds an aim that is not met.
    """

    way: Way
    aims: Mapping[str, float | None]
    bounds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """A piece of work: where it is done, our way, and theirs. `alone` are quantities of ours without a rival."""

    name: str
    work: str
    stage: Callable[[Path], AbstractContextManager[Any]]
    ours: Way
    theirs: Sequence[Against] = ()
    alone: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of a case: ours beside one of theirs. `theirs` is empty where there is no rival."""

    case: str
    work: str
    against: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    aim: float | None = None
    bound: str = ""
    unit: str = "s"

    @property
    def ratio(self) -> float | None:
        """The ratio of the medians, None without a rival."""
        return statistics.median(self.ours) / statistics.median(self.theirs) if self.theirs else None

    @property
    def more_is_better(self) -> bool:
        """Whether the ratio should be large."""
        return self.unit == "/s"

    @property
    def met(self) -> bool | None:
        """Whether the aim is met, None where there is none."""
        if self.aim is None or self.ratio is None:
            return None
        ratio = round(self.ratio, 2)
        return ratio >= self.aim if self.more_is_better else ratio <= self.aim


def measure(case: Case, rounds: int, tell: Callable[[str], None]) -> Iterator[Row]:
    """Do all ways of a case in turn, so many times; `tell` is given a line on each. Yield a row for each quantity."""
    ways = [case.ours, *(rival.way for rival in case.theirs)]
    samples: list[list[Sample]] = [[] for _ in ways]
    with tempfile.TemporaryDirectory(prefix=f"bench-{case.name}-") as folder, case.stage(Path(folder)) as stage:
        for number in range(1, rounds + 1):
            for way, taken in zip(ways, samples, strict=True):
                taken.append(way.once(stage))
                shown = ", ".join(f"{quantity} {show(value, unit(quantity))}" for quantity, value in taken[-1].items())
                tell(f"{case.name} {number}/{rounds}: {way.name}: {shown}")
    ours = samples[0]
    for quantity in case.alone:
        yield Row(case.name, _work(case, quantity), "", _all(ours, quantity), unit=unit(quantity))
    for rival, taken in zip(case.theirs, samples[1:], strict=True):
        for quantity, aim in rival.aims.items():
            yield Row(
                case.name,
                _work(case, quantity),
                rival.way.name,
                _all(ours, quantity),
                _all(taken, quantity),
                aim,
                rival.bounds.get(quantity, ""),
                unit(quantity),
            )


def _all(samples: Sequence[Sample], quantity: str) -> list[float]:
    return [sample[quantity] for sample in samples]


def _work(case: Case, quantity: str) -> str:
    return f"{case.work}: {quantity}" if quantity else case.work


def unit(quantity: str) -> str:
    """Return a quantity's unit: bytes for sizes, a number in each second for rates, seconds for all else."""
    if quantity.endswith("requests/s"):
        return "/s"
    return "B" if quantity.startswith("size") else "s"


def show(value: float, of: str) -> str:
    """Return a value as people read it: 12 ms, 1.32 s, 42 s, 71 MB, 1230/s."""
    if of == "B":
        return f"{value / 1e6:.0f} MB"
    if of == "/s":
        return f"{value:.0f}/s"
    if value < 0.1:
        return f"{value * 1000:.1f} ms" if value < 0.01 else f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
