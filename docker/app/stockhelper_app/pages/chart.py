"""Prices as shapes: where candles, volumes and their axes are. Templates draw them as SVG.

The plot is as wide as the page and stretched sideways, so it has no width here but slots, `SLOT` units for each candle;
what must not be stretched, text, stands at a part of the width in percent. Heights are pixels.
"""

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

#: No chart has more candles: on a phone each has two pixels then.
MOST: Final = 130
#: Fewer would be as broad as bricks.
_FEWEST: Final = 24
SLOT: Final = 10
_BODY: Final = 6
#: Pixels: of the prices, of what is free above and below them for the marks, and of the volumes.
PRICES: Final = 260
_MARGIN: Final = 22
VOLUMES: Final = 64
_SPARK: Final = (100, 32)


class Bar(NamedTuple):
    """What was traded from one day to another: prices in yuan, volume in shares."""

    first: dt.date
    last: dt.date
    open: float
    high: float
    low: float
    close: float
    volume: int


class Mark(NamedTuple):
    """A text in the plot: where (x in percent, y in pixels), what it is about, and which end of it is there."""

    x: float
    y: float
    value: float
    anchor: str


class Tick(NamedTuple):
    """A price of the axis, and where it is."""

    y: float
    value: float


class Day(NamedTuple):
    """A day of the axis: where (in percent), and which end of the text is there."""

    x: float
    day: dt.date
    anchor: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of candles: paths of those that rise and of those that fall, and of their volumes.

    `step` is what one candle stands for, `slots` how many there is room for. `decimals` is how many the axis needs.
    """

    step: str
    bars: Sequence[Bar]
    slots: int
    rising: str
    falling: str
    rising_volumes: str
    falling_volumes: str
    ticks: Sequence[Tick]
    decimals: int
    days: Sequence[Day]
    highest: Mark
    lowest: Mark
    most_volume: int


#: From fine to coarse: what a candle may stand for, and which days belong to the same one.
_STEPS: Final[Mapping[str, Callable[[dt.date], object]]] = {
    "day": lambda day: day,
    "week": lambda day: day.isocalendar()[:2],
    "month": lambda day: (day.year, day.month),
    "quarter": lambda day: (day.year, (day.month - 1) // 3),
    "year": lambda day: day.year,
}


def chart(daily: Sequence[Bar]) -> Chart:
    """Return the chart of some daily bars, one at least, in the finest step that leaves `MOST` candles."""
    step = next((name for name, period in _STEPS.items() if _count(daily, period) <= MOST), "year")
    bars = [_merged(tuple(days)) for _, days in groupby(daily, key=lambda bar: _STEPS[step](bar.first))]
    slots = max(len(bars), _FEWEST)
    high, low = max(bars, key=lambda bar: bar.high), min(bars, key=lambda bar: bar.low)
    y = _scale(low.low, high.high)
    most = max(bar.volume for bar in bars)
    shapes = [
        (_candle(number, bar, y), _volume(number, bar, most), bar.close >= bar.open) for number, bar in enumerate(bars)
    ]
    ticks, decimals = _ticks(low.low, high.high)

    def mark(bar: Bar, value: float, beside: int) -> Mark:
        x = _middle(bars.index(bar), slots)
        return Mark(x, round(y(value) + beside, 1), value, _anchor(x))

    return Chart(
        step=step,
        bars=bars,
        slots=slots,
        rising="".join(candle for candle, _, rises in shapes if rises),
        falling="".join(candle for candle, _, rises in shapes if not rises),
        rising_volumes="".join(volume for _, volume, rises in shapes if rises),
        falling_volumes="".join(volume for _, volume, rises in shapes if not rises),
        ticks=[Tick(round(y(value), 1), value) for value in ticks],
        decimals=decimals,
        days=_days(bars, slots),
        highest=mark(high, high.high, -7),
        lowest=mark(low, low.low, 16),
        most_volume=most,
    )


def spark(values: Sequence[float]) -> str:
    """Return the line through some values, two at least, from the left to the right of a box of 100 by 32."""
    width, height = _SPARK
    low, high = min(values), max(values)
    # A line that never moves is in the middle.
    scale, floor = ((height - 4) / (high - low), height - 2) if high > low else (0.0, height / 2)
    step = width / (len(values) - 1)
    points = (f"{number * step:.4g} {floor - (value - low) * scale:.4g}" for number, value in enumerate(values))
    return "M" + "L".join(points)


def _count(bars: Iterable[Bar], period: Callable[[dt.date], object]) -> int:
    return len({period(bar.first) for bar in bars})


def _merged(bars: Sequence[Bar]) -> Bar:
    return Bar(
        first=bars[0].first,
        last=bars[-1].last,
        open=bars[0].open,
        high=max(bar.high for bar in bars),
        low=min(bar.low for bar in bars),
        close=bars[-1].close,
        volume=sum(bar.volume for bar in bars),
    )


def _scale(low: float, high: float) -> Callable[[float], float]:
    """Return what gives the height of a price, from above."""
    room = PRICES - 2 * _MARGIN
    if high <= low:
        return lambda value: PRICES / 2
    return lambda value: _MARGIN + (high - value) / (high - low) * room


def _candle(number: int, bar: Bar, y: Callable[[float], float]) -> str:
    top, bottom = sorted((y(bar.open), y(bar.close)))
    # A body that is flat is a line, and a line has some height.
    bottom = max(bottom, top + 1)
    x = number * SLOT + SLOT / 2
    left = x - _BODY / 2
    wicks = f"M{x:g} {y(bar.high):.1f}V{top:.1f}M{x:g} {bottom:.1f}V{max(y(bar.low), bottom):.1f}"
    return f"{wicks}M{left:g} {top:.1f}h{_BODY}V{bottom:.1f}h-{_BODY}z"


def _volume(number: int, bar: Bar, most: int) -> str:
    height = bar.volume / most * VOLUMES if most else 0
    return f"M{number * SLOT + (SLOT - _BODY) / 2:g} {VOLUMES}v-{height:.1f}h{_BODY}V{VOLUMES}z"


def _ticks(low: float, high: float) -> tuple[list[float], int]:
    """Return round prices between two, about four, and how many decimals they need."""
    if high <= low:
        return [low], 2
    wanted = (high - low) / 4
    magnitude = math.floor(math.log10(wanted))
    size = next((size for size in (1, 2, 5) if size * 10.0**magnitude >= wanted), 10)
    step = size * 10.0**magnitude
    decimals = max(0, -magnitude - (size == 10))
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)], decimals


def _days(bars: Sequence[Bar], slots: int) -> list[Day]:
    """Return four days of the axis, from the first to the last; that alone where there is no room for more."""
    last = len(bars) - 1
    chosen = [round(last * part / 3) for part in range(4)] if last >= _FEWEST / 2 else [last]
    return [
        Day(x, bars[number].last if number == last else bars[number].first, _anchor(x))
        for number in chosen
        for x in (_middle(number, slots),)
    ]


def _middle(number: int, slots: int) -> float:
    return round((number + 0.5) / slots * 100, 2)


def _anchor(x: float) -> str:
    """Return which end of a text stands at this part of the width, so that all of it is inside."""
    return "start" if x < 15 else "end" if x > 85 else "middle"
