"""Daily bars as text: the CSV files that people bring, checked line by line, and what goes to PostgreSQL's COPY.

A file begins with the names of its columns, in any order:

    symbol,trade_date,open,high,low,close,volume,turnover,adjustment_factor
    600519.SH,2026-11-20,1460.00,1472.50,1451.20,1468.80,2413300,3529120000.00,8.123400

Prices are in yuan and not adjusted, volume is in shares, turnover in yuan. The factor may be left out, as a column or
in a row, and stays what it was. Lines that begin with `#` are comments. A row that could be read in two ways is
refused rather than guessed at.
"""

import codecs
import csv
import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from zoneinfo import ZoneInfo

SHANGHAI: Final = ZoneInfo("Asia/Shanghai")

#: The columns of a file, and of the staging table, in this order.
COLUMNS: Final = ("symbol", "trade_date", "open", "high", "low", "close", "volume", "turnover", "adjustment_factor")
#: The one that a file may do without.
OPTIONAL: Final = "adjustment_factor"

SYMBOL: Final = re.compile(r"[0-9]{6}\.(?:SH|SZ|BJ)")

#: How many bad rows are described; all are counted.
_DESCRIBED: Final = 1000
#: No line of bars is longer (bytes).
_LONGEST: Final = 4096
#: How much is read at a time (bytes).
_BLOCK: Final = 1 << 16
_EXCERPT: Final = 80

_PRICE: Final = (r"[0-9]{1,7}+(?:\.[0-9]{0,15}+)?+", "is not a price in yuan")
#: What a column looks like, and what is said of one that does not. The digits are those that the table's types hold;
#: no quantifier gives back what it took, which halves the time of a match.
_FORMS: Final[Mapping[str, tuple[str, str]]] = {
    "symbol": (SYMBOL.pattern, "is not six digits and an exchange, such as 600519.SH"),
    "trade_date": (r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}", "is not a day, such as 2026-11-20"),
    "open": _PRICE,
    "high": _PRICE,
    "low": _PRICE,
    "close": _PRICE,
    "volume": (r"[0-9]{1,18}+(?:\.0*+)?+", "is not a whole number of shares"),
    "turnover": (r"[0-9]{1,17}+(?:\.[0-9]{0,15}+)?+", "is not an amount of yuan"),
    "adjustment_factor": (r"(?:[0-9]{1,9}+(?:\.[0-9]{0,15}+)?+)?+", "is not a number"),
}


class UnusableFile(ValueError):
    """The file as a whole cannot be read as bars; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be taken: its line in the file (from 1), why, and its day where that can be read."""

    line: int
    reason: str
    day: dt.date | None = None


@dataclass(slots=True)
class Refused:
    """The rows of a file that cannot be taken.

    `rows` describes the first of them, `count` counts all. `days` are those that they belong to: a day is loaded whole
    or not at all. `anywhere` is whether the day of one is unknown, so that no day of the file is known to be whole.
    """

    rows: list[BadRow] = field(default_factory=list)
    count: int = 0
    days: set[dt.date] = field(default_factory=set)
    anywhere: bool = False

    def add(self, row: BadRow) -> None:
        """Take note of one more."""
        self.count += 1
        if len(self.rows) < _DESCRIBED:
            self.rows.append(row)
        if row.day is None:
            self.anywhere = True
        else:
            self.days.add(row.day)

    def told(self, place: Callable[[int], str]) -> str | None:
        """Return how many there are and what is wrong with the first, on one line; None if there are none."""
        if not self.rows:
            return None
        first = min(self.rows, key=lambda row: row.line)
        how_many = "a bad row, in" if self.count == 1 else f"{self.count} bad rows, the first in"
        return f"{how_many} {place(first.line)}: {first.reason}"


def today() -> dt.date:
    """Return the present day of Asia/Shanghai."""
    return dt.datetime.now(SHANGHAI).date()


class Source(Protocol):
    """Anything that can be read in blocks, as an open binary file can."""

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes, none only at the end."""


class BarFile:
    """A CSV file of bars, read once from front to back.

    Iterating yields the rows that can be read as lines for COPY: their line in the file, then their fields in the order
    of `columns`, comma-separated and without quotes. The others go to `refused`. Memory does not grow with the file.

    Making one reads the header; raises `UnusableFile`. `only` are the days that are wanted, if not all are. Lines are
    counted from `before`, which tells the lines of several files apart.
    """

    def __init__(
        self, stream: Source, refused: Refused, *, only: Collection[dt.date] | None = None, before: int = 0
    ) -> None:
        self.refused = refused
        self._only = only
        self._before = self._line = before
        self._lines = self._read(stream)
        self.columns = self._header()
        #: The days met so far as they are written, and whether they are wanted.
        self._days: dict[bytes, dt.date | None] = {}
        # Its one group is the day.
        forms = ((_FORMS[column][0], "" if column == "trade_date" else "?:") for column in self.columns)
        self._form = re.compile(",".join(f"({mark}{form})" for form, mark in forms).encode())
        self._latest = today()

    def __iter__(self) -> Iterator[bytes]:
        # One regular expression for a whole line: in a stream of millions each microsecond counts.
        match, days = self._form.fullmatch, self._days
        for text in self._lines:
            row = match(text)
            if row is None:
                usual = self._unquoted(text)
                row = match(usual) if usual is not None else None
                if row is None:
                    continue
            written = row[1]
            if written not in days:
                day = self._day(written)
                if isinstance(day, str):
                    self._refuse(day)
                    continue
                days[written] = day if self._only is None or day in self._only else None
            if days[written] is None:
                continue
            yield b"%d,%s\n" % (self._line, row[0])

    def days(self) -> set[dt.date]:
        """Return the days of the rows that were yielded so far."""
        return {day for day in self._days.values() if day is not None}

    def _read(self, stream: Source) -> Iterator[bytes]:
        """Yield the lines that are neither empty nor comments, without their ends, and count all."""
        block = b""
        # A network, or a pipe, may give less than the mark at first.
        while len(block) < len(codecs.BOM_UTF8) and (more := stream.read(_BLOCK)):
            block += more
        block, rest = block.removeprefix(codecs.BOM_UTF8) or stream.read(_BLOCK), b""
        while block:
            lines = (rest + block).split(b"\n")
            # A file without line ends must not fill the memory: the beginning is enough to refuse it.
            rest = lines.pop()[:_LONGEST]
            yield from self._written(lines)
            block = stream.read(_BLOCK)
        if rest:
            yield from self._written([rest])

    def _written(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for text in lines:
            self._line += 1
            line = text.removesuffix(b"\r")
            if line and not line.startswith(b"#"):
                yield line

    def _header(self) -> tuple[str, ...]:
        for text in self._lines:
            names = tuple(name.strip() for name in _fields(text.decode(errors="replace")) or ())
            break
        else:
            raise UnusableFile("it is empty")
        if not set(names) & set(COLUMNS):
            fault = "does not name the columns"
        elif unknown := [name for name in names if name not in COLUMNS]:
            fault = f"names an unknown column, {_shown(unknown[0])}"
        elif missing := [name for name in COLUMNS if name not in names and name != OPTIONAL]:
            fault = f"does not name the column {missing[0]}"
        elif len(set(names)) < len(names):
            fault = "names a column twice"
        else:
            return names
        raise UnusableFile(f"line {self._line - self._before} {fault}; the columns are {','.join(COLUMNS)}")

    def _unquoted(self, text: bytes) -> bytes | None:
        """Return an unusual line in the usual form, without quotes and blanks; None, and refused, if it is no good."""
        decoded = text.decode(errors="replace")
        fields = _fields(decoded)
        if fields is None or len(fields) != len(self.columns):
            found = "an open quote" if fields is None else f"{len(fields)} fields"
            self._refuse(f"has {found} where there are {len(self.columns)} columns: {_shown(decoded)}")
            return None
        named = {column: value.strip() for column, value in zip(self.columns, fields, strict=True)}
        for column, value in named.items():
            form, complaint = _FORMS[column]
            if not re.fullmatch(form, value):
                written = f": {_shown(value)}" if value else ", but empty"
                day = self._day(named["trade_date"].encode()) if column != "trade_date" else None
                self._refuse(f"{column} {complaint}{written}", day if isinstance(day, dt.date) else None)
                return None
        return ",".join(named.values()).encode()

    def _day(self, text: bytes) -> dt.date | str:
        """Return a day, or what is wrong with it."""
        try:
            day = dt.date.fromisoformat(text.decode())
        except ValueError:
            return f"trade_date {_FORMS['trade_date'][1]}: {_shown(text.decode(errors='replace'))}"
        return day if day <= self._latest else f"trade_date is in the future: {day}"

    def _refuse(self, reason: str, day: dt.date | None = None) -> None:
        self.refused.add(BadRow(self._line, reason, day))


def _fields(text: str) -> list[str] | None:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…")
