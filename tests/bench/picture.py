"""What was measured as a picture: a bar for each ratio, beside a line that is the other's time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from typing import Final

from tests.bench.measure import Row, show

#: Where the columns begin, and the ends of the picture (pixels).
_LEFT, _BARS, _VALUES, _WIDTH = 16, 372, 640, 800
_TOP, _ROW = 64, 34
#: How long a bar is whose ratio is 1; longer ones than that of `_LONGEST` are cut.
_ONE: Final = 160
_LONGEST: Final = 1.6

#: It stands on a ground of its own, so that it can be read wherever it is shown, and follows the reader's scheme.
_STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .small { font-size: 11px; fill: #59636e }
  .ground { fill: #ffffff; stroke: #d1d9e0 }
  .bar { fill: #1a7f5a }
  .over { fill: #b35900 }
  .other { stroke: #59636e; stroke-dasharray: 3 3 }
  .aim { stroke: #1f2328; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9da7b1 }
    .ground { fill: #0d1117; stroke: #3d444d }
    .bar { fill: #3fb98a }
    .over { fill: #f0883e }
    .other { stroke: #9da7b1 }
    .aim { stroke: #e6edf3 }
  }
"""


def picture(rows: Sequence[Row]) -> str:
    """Return an SVG of the rows that have an aim."""
    shown = [row for row in rows if row.aim is not None and row.ratio is not None]
    height = _TOP + _ROW * len(shown) + 12
    line = _BARS + _ONE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="stockhelper beside others">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(_LEFT, 26, "What stockhelper takes (time, for the image room), as a part of what the other takes"),
        _text(
            _LEFT,
            46,
            "medians of turns on one machine; dashed: the other; mark: the aim; green: met, orange: not",
            "small",
        ),
        _text(_VALUES, 46, "ours : theirs", "small"),
        f'<line class="other" x1="{line}" y1="{_TOP - 8}" x2="{line}" y2="{height - 12}"/>',
    ]
    for number, row in enumerate(shown):
        parts += _row(row, _TOP + _ROW * number)
    return "\n".join([*parts, "</svg>", ""])


def _row(row: Row, top: int) -> list[str]:
    assert row.ratio is not None
    assert row.aim is not None
    aim = _BARS + _length(row.aim)
    ours, theirs = (show(statistics.median(values), row.unit) for values in (row.ours, row.theirs))
    return [
        _text(_LEFT, top + 12, row.work),
        _text(_LEFT, top + 26, f"beside {row.against}", "small"),
        f'<rect class="{"bar" if row.met else "over"}" x="{_BARS}" y="{top + 6}"'
        f' width="{max(_length(row.ratio), 1)}" height="14" rx="2"/>',
        f'<line class="aim" x1="{aim}" y1="{top + 3}" x2="{aim}" y2="{top + 23}"/>',
        _text(_VALUES, top + 18, f"{row.ratio:.2f}"),
        _text(_VALUES + 44, top + 18, f"{ours} : {theirs}", "small"),
    ]


def _length(ratio: float) -> int:
    return round(min(ratio, _LONGEST) * _ONE)


def _text(x: int, y: int, text: str, style: str = "") -> str:
    chosen = f' class="{style}"' if style else ""
    return f'<text{chosen} x="{x}" y="{y}">{escape(text)}</text>'
