"""How `data import` compares with a bare `\\copy` of the same file into the same table, over the same engine."""

from __future__ import annotations

import datetime as dt
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.sandbox import Sandbox, sandbox

COLUMNS = ("symbol", "trade_date", "open", "high", "low", "close", "volume", "turnover", "adjustment_factor")
ROUNDS = 3
SHARES = 5_000
DAYS = 200
FIRST = dt.date(2024, 1, 1)


def main(days: int = DAYS) -> None:
    """Print, for an empty table, seconds and rows a second of both, and their ratio, as min, median and max."""
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder)) as project:
        project.up()
        file = Path(folder) / "bars.csv"
        write(file, days)
        plain, mine, again = [], [], []
        for _ in range(ROUNDS):
            plain.append(
                timed(project, "psql", "-c", f"\\copy daily_bars({','.join(COLUMNS)}) from stdin csv header", file=file)
            )
            mine.append(timed(project, "data", "import", str(file)))
            again.append(timed(project, "data", "import", str(file), empty=False))
    rows = days * SHARES
    print(f"{rows} bars, {ROUNDS} rounds: seconds, and bars a second, of the median")
    for name, values in (("\\copy", plain), ("data import", mine), ("data import, all there", again)):
        median = statistics.median(values)
        print(f"{name:24}{min(values):7.2f} /{median:6.2f} /{max(values):6.2f} s{rows / median:12.0f} bars/s")
    ratios = sorted(theirs / ours for ours, theirs in zip(mine, plain, strict=True))
    print(f"the rate of data import is {statistics.median(ratios):.2f} × that of \\copy")


def write(file: Path, days: int) -> None:
    """Write a file of made-up bars, sorted by day as providers do."""
    with file.open("w") as stream:
        stream.write(",".join(COLUMNS) + "\n")
        for day in (FIRST + dt.timedelta(days=number) for number in range(days)):
            for number in range(SHARES):
                low, high = 9 + number % 7, 17 + number % 5
                prices = f"{low}.12,{high}.50,{low}.05,{high}.10"
                stream.write(f"{600000 + number}.SH,{day},{prices},{number}00,{number}000.50,1.234\n")


def timed(project: Sandbox, *arguments: str, file: Path | None = None, empty: bool = True) -> float:
    """Return how many seconds a command takes, which must succeed; the table is emptied before."""
    project.psql(("TRUNCATE daily_bars;" if empty else "") + "CHECKPOINT")
    began = time.monotonic()
    with file.open("rb") if file else open("/dev/null", "rb") as stream:  # noqa: PTH123
        subprocess.run(
            project.command(*arguments),
            cwd=project.root,
            env=project.environment({}),
            stdin=stream,
            check=True,
            capture_output=True,
        )
    return time.monotonic() - began


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
