"""Bars into the database, many at a time: COPY into a table that goes with the transaction, then one upsert.

What was loaded before may be loaded again: only rows that differ are written. The days of one load become visible
together, when the caller's transaction commits.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol, cast

import psycopg
from psycopg.sql import SQL, Identifier

from stockhelper_app.bars import COLUMNS, BadRow, Refused

#: The advisory lock that a load holds while it writes: two that met in the same rows could deadlock.
LOCK_KEY: Final = 0x73746F636B6C6F61
#: How many lines are handed over at a time.
_LINES: Final = 1000

# Volume as people write it, 1208022.0 too. The other types are the table's, so that what is checked is what will be.
_STAGED: Final = """
    CREATE TEMPORARY TABLE staged (
        line bigint NOT NULL,
        symbol text NOT NULL,
        trade_date date NOT NULL,
        open numeric(12, 4) NOT NULL,
        high numeric(12, 4) NOT NULL,
        low numeric(12, 4) NOT NULL,
        close numeric(12, 4) NOT NULL,
        volume numeric(20, 0) NOT NULL,
        turnover numeric(20, 2) NOT NULL,
        adjustment_factor numeric(16, 6)
    ) ON COMMIT DROP
"""
_CONTRADICTIONS: Final = """
    SELECT line, trade_date, NULL AS first, CASE
        WHEN adjustment_factor = 0 THEN 'adjustment_factor is 0'
        ELSE 'low, open, close and high contradict each other, or are 0' END
    FROM staged
    WHERE NOT (low > 0 AND low <= open AND low <= close AND high >= open AND high >= close) OR adjustment_factor = 0
    UNION ALL
    SELECT unnest(lines[2:]), trade_date, lines[1], 'is the same share and day as '
    FROM (
        SELECT trade_date, array_agg(line ORDER BY line) AS lines
        FROM staged NATURAL JOIN (SELECT symbol, trade_date FROM staged GROUP BY 1, 2 HAVING count(*) > 1) twice
        GROUP BY symbol, trade_date
    ) twice
    ORDER BY 1
"""
_STOCKS: Final = """
    INSERT INTO stocks (symbol, name, exchange)
    SELECT DISTINCT symbol, symbol, split_part(symbol, '.', 2) FROM staged WHERE trade_date <> ALL(%s)
    ON CONFLICT DO NOTHING
"""
# Sorted, so that neighbours in the primary key's index are written one after the other. Where no factor came, it is
# what it was, or was last.
_INSERT: Final = """
    INSERT INTO daily_bars ({columns}, adjustment_factor)
    SELECT {columns}, coalesce(
        adjustment_factor,
        (SELECT b.adjustment_factor FROM daily_bars b
         WHERE b.symbol = staged.symbol AND b.trade_date <= staged.trade_date ORDER BY b.trade_date DESC LIMIT 1),
        1)
    FROM staged WHERE trade_date <> ALL(%s) ORDER BY symbol, trade_date
"""
_UPSERT: Final = """
    ON CONFLICT (symbol, trade_date) DO UPDATE SET ({values}) = ROW ({new})
    WHERE ({old}) IS DISTINCT FROM ({new})
"""
_PARTS: Final = {
    "columns": SQL(", ").join(map(Identifier, COLUMNS[:-1])),
    "values": SQL(", ").join(Identifier(column) for column in COLUMNS[2:]),
    "new": SQL(", ").join(Identifier("excluded", column) for column in COLUMNS[2:]),
    "old": SQL(", ").join(Identifier("daily_bars", column) for column in COLUMNS[2:]),
}


class Rows(Protocol):
    """Bars as lines for COPY: a number to tell each by, then the fields of `columns`, comma-separated."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of the fields."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load brought: its days, how many bars they have, and how many of those were new or different."""

    days: tuple[dt.date, ...] = ()
    rows: int = 0
    changed: int = 0


def load(
    connection: psycopg.Connection[Any],
    parts: Iterable[Rows],
    refused: Refused,
    place: Callable[[int], str] = "line {}".format,
) -> Loaded:
    """Load bars in the caller's transaction, and return what they were.

    Rows that contradict themselves or each other are added to `refused`; `place` tells where one stands by its number.
    No day of a row in there is loaded, whoever put it there. Shares that are not known yet are from then on, their
    symbol for a name. Raises `psycopg.Error`.
    """
    connection.execute(_STAGED)
    for part in parts:
        columns = SQL(", ").join(map(Identifier, ("line", *part.columns)))
        copy = SQL("COPY staged ({}) FROM STDIN (DELIMITER ',', NULL '')").format(columns)
        with connection.cursor() as cursor, cursor.copy(copy) as staged:
            for block in _blocks(part):
                staged.write(block)
    # On the server's side, as there may be as many as there are rows.
    with connection.cursor("contradictions") as cursor:
        for line, day, first, reason in cursor.execute(_CONTRADICTIONS):
            refused.add(BadRow(line, reason if first is None else reason + place(first), day))
    if refused.anywhere:
        return Loaded()
    counts = connection.execute("SELECT trade_date, count(*) FROM staged GROUP BY 1 ORDER BY 1").fetchall()
    good = {day: cast("int", count) for day, count in counts if day not in refused.days}
    if not good:
        return Loaded()
    bad = list(refused.days)
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
    connection.execute(_STOCKS, (bad,))
    # Nobody else adds bars while the lock is held: where the days have none, looking for each bar would be for nothing.
    known = connection.execute("SELECT FROM daily_bars WHERE trade_date = ANY(%s) LIMIT 1", (list(good),)).fetchone()
    insert = SQL(_INSERT if known is None else _INSERT + _UPSERT).format(**_PARTS)
    changed = connection.execute(insert, (bad,)).rowcount
    return Loaded(tuple(good), sum(good.values()), changed)


def _blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    rows = iter(lines)
    while block := b"".join(islice(rows, _LINES)):
        yield block
