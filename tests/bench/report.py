"""What was measured, as a table for people and as JSON."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from typing import Any

import psutil

from tests.bench.measure import Row, show
from tests.support import ROOT
from tests.support.compose_cli import compose
from tests.support.sandbox import client


def table(rows: Sequence[Row]) -> str:
    """Return a line for each row: the medians, their ratio, and whether the aim is met; if not, what bounds it."""
    head = ("work", "against", "ours", "theirs", "ratio", "aim")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    for index, row in reversed(list(enumerate(rows, 1))):
        if row.met is False and row.bound:
            texts.insert(index + 1, f"    bounded by {row.bound}")
    return "\n".join(texts)


def _cells(row: Row) -> tuple[str, ...]:
    ours = show(statistics.median(row.ours), row.unit)
    if row.ratio is None:
        return row.work, "–", ours, "", "", ""
    sign = "≥" if row.more_is_better else "≤"
    aim = "" if row.aim is None else f"{sign} {row.aim:g}  {'met' if row.met else 'NOT MET'}"
    return row.work, row.against, ours, show(statistics.median(row.theirs), row.unit), f"{row.ratio:.2f}", aim


def as_json(rows: Sequence[Row], rounds: int) -> dict[str, Any]:
    """Return all that was measured, and on what; values are in seconds, sizes in bytes, rates in 1/s."""
    return {"rounds": rounds, "machine": _machine(), "rows": [_row(row) for row in rows]}


def _row(row: Row) -> dict[str, Any]:
    return {
        "case": row.case,
        "work": row.work,
        "against": row.against,
        "unit": row.unit,
        "ours": _spread(row.ours),
        "theirs": _spread(row.theirs),
        "ratio": None if row.ratio is None else round(row.ratio, 3),
        "aim": row.aim,
        "met": row.met,
        "bound": row.bound if row.met is False else "",
    }


def _spread(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    rounded = [round(value, 4) for value in values]
    return {"median": round(statistics.median(values), 4), "min": min(rounded), "max": max(rounded), "all": rounded}


def _machine() -> dict[str, Any]:
    engine = client().version()
    return {
        "processors": psutil.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "system": engine["Os"] + "/" + engine["Arch"],
        "engine": engine["Version"],
        "python": platform.python_version(),
        "compose": compose("version", "--short", cwd=ROOT).stdout.strip(),
    }
