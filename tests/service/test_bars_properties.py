"""Files of bars that nobody chose: each bad row is named, and a day is loaded completely or not at all."""

from __future__ import annotations

import datetime as dt
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockhelper_app.bars import COLUMNS, BarFile, Refused
from stockhelper_app.loading import Loaded, load
from stockhelper_app.providers import ProviderError
from stockhelper_app.providers.csv_files import CsvFiles
from stockhelper_app.sync import sync
from tests.service.conftest import settings_for
from tests.support.alembic import Alembic
from tests.support.postgres import Postgres
from tests.support.properties import JUDGED_EXAMPLES, examples

DAYS = tuple(dt.date(2026, 11, day) for day in (16, 17, 18, 19, 20))
SYMBOLS = ("600519.SH", "000001.SZ", "830001.BJ", "600000.SH")
BARS = "SELECT symbol, trade_date, close FROM daily_bars"

Bars = dict[tuple[str, dt.date], int]


@dataclass(frozen=True)
class Row:
    """A row of a file, and what is wrong with it.

    `fault` is "" for a good row, "field" where one of its fields cannot be read, "contradiction" where they cannot all
    be right, "lost" where not even its day can be read.
    """

    symbol: str
    day: dt.date
    close: int
    fault: str = ""
    broken: tuple[str, str] = ("", "")

    @property
    def fields(self) -> dict[str, str]:
        """Its fields by their columns, the broken one as it is."""
        price = f"{self.close}.00"
        fields = {"symbol": self.symbol, "trade_date": self.day.isoformat(), "adjustment_factor": "1"}
        fields |= dict.fromkeys(("open", "high", "low", "close"), price) | {"volume": "100", "turnover": "1000.5"}
        return fields | ({self.broken[0]: self.broken[1]} if self.broken[0] else {})


@dataclass(frozen=True)
class Text:
    """A file: its rows by the line that each stands in, and its bytes."""

    rows: dict[int, Row]
    content: bytes


FAULTS = {
    "field": [
        ("symbol", "600519"),
        ("symbol", ""),
        ("open", "abc"),
        ("close", ""),
        ("high", "-1"),
        ("low", "1e3"),
        ("volume", "1.5"),
        ("turnover", "NaN"),
        ("adjustment_factor", "x"),
    ],
    "contradiction": [("low", "99999"), ("high", "0.5"), ("open", "0"), ("adjustment_factor", "0")],
    "lost": [
        ("trade_date", "2026-02-30"),
        ("trade_date", ""),
        ("trade_date", "20.11.2026"),
        ("trade_date", "2099-01-04"),
    ],
}
GOOD_ROWS = st.builds(Row, st.sampled_from(SYMBOLS), st.sampled_from(DAYS), st.integers(1, 999))


@st.composite
def rows(draw: st.DrawFn, faults: Sequence[str] = ("field", "contradiction", "lost")) -> list[Row]:
    """Draw rows, most of them good; a share may have two on a day."""
    drawn = draw(st.lists(GOOD_ROWS, max_size=12, unique_by=lambda row: (row.symbol, row.day)))
    for index in draw(st.lists(st.integers(0, max(len(drawn) - 1, 0)), max_size=2)) if drawn and faults else ():
        fault = draw(st.sampled_from([*faults]))
        drawn[index] = replace(drawn[index], fault=fault, broken=draw(st.sampled_from(FAULTS[fault])))
    if drawn and faults and draw(st.integers(0, 4)) == 0:
        drawn.append(draw(st.sampled_from(drawn)))
    return drawn


@st.composite
def files(draw: st.DrawFn, rows: Sequence[Row]) -> Text:
    """Draw how a file with these rows is written: its columns' order, its line ends, quotes, blanks and comments."""
    columns = draw(st.permutations(COLUMNS))
    lines = [",".join(columns)]
    places: dict[int, Row] = {}
    for row in rows:
        lines += draw(st.lists(st.sampled_from(["", "# comment", "#,,,"]), max_size=1))
        quoted, blank = draw(st.sampled_from([(False, ""), (False, ""), (True, ""), (False, " ")]))
        fields = [f"{blank}{row.fields[column]}" for column in columns]
        places[len(lines) + 1] = row
        lines.append(",".join(f'"{field}"' if quoted else field for field in fields))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = draw(st.sampled_from(["", "\ufeff"])) + newline.join(lines) + draw(st.sampled_from(["", newline]))
    return Text(places, text.encode())


FILES = rows().flatmap(files)


class Pieces(io.BytesIO):
    """A file of which each read gives only a few bytes, as one from a network does."""

    def __init__(self, content: bytes, most: int) -> None:
        super().__init__(content)
        self.most = most

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self.most if size is None or size < 0 else min(size, self.most))


@examples()
@given(FILES, st.sampled_from([1, 7, 100, 1 << 20]))
def test_each_row_is_taken_or_named_with_line_and_day(file: Text, most: int) -> None:
    refused = Refused()
    taken = BarFile(Pieces(file.content, most), refused)
    lines = [int(line.partition(b",")[0]) for line in taken]
    named = {row.line: row.day for row in refused.rows}
    assert lines == [line for line, row in file.rows.items() if row.fault in ("", "contradiction")]
    assert named == {
        line: row.day if row.fault == "field" else None
        for line, row in file.rows.items()
        if row.fault in ("field", "lost")
    }
    assert (refused.count, refused.anywhere) == (len(named), None in named.values())
    assert refused.days == {day for day in named.values() if day is not None}
    assert taken.days() == {file.rows[line].day for line in lines}


def trading_days(provider: CsvFiles) -> list[dt.date] | str:
    """Return the days of a folder's files, or what is said where a row is of no day that can be read."""
    try:
        return provider.trading_days(DAYS[0], DAYS[-1])
    except ProviderError as error:
        return str(error)


@examples()
@given(st.lists(FILES, min_size=1, max_size=3), st.sets(st.sampled_from(DAYS)))
def test_a_folder_has_each_row_of_the_days_once(texts: list[Text], wanted: set[dt.date]) -> None:
    """Of a folder's files those rows are given that are wanted, and each is told by its file and line."""
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(texts):
            (Path(folder) / f"{number}.csv").write_bytes(text.content)
        provider = CsvFiles(Path(folder))
        found = trading_days(provider)
        (batch,) = provider.batches(sorted(wanted))
        given = [batch.place(int(line.partition(b",")[0])) for part in batch.parts for line in part]
    every = [(f"{number}.csv:{line}", row) for number, text in enumerate(texts) for line, row in text.rows.items()]
    lost = [place for place, row in every if row.fault == "lost"]
    if lost:
        # Of the bad rows the first one is named.
        assert isinstance(found, str)
        assert any(f" {place}: " in found for place, row in every if row.fault in ("field", "lost"))
    else:
        assert found == sorted({row.day for _, row in every})
    assert given == [place for place, row in every if row.day in wanted and row.fault in ("", "contradiction")]
    bad = [place for place, row in every if row.fault in ("field", "lost")]
    assert [batch.place(row.line) for row in batch.refused.rows] == bad


# --- in a database


def complete_days(rows: Sequence[Row]) -> Bars:
    """Return the bars of the days of which every row is good."""
    if any(row.fault == "lost" for row in rows):
        return {}
    seen: set[tuple[str, dt.date]] = set()
    bad = set()
    for row in rows:
        if row.fault or (row.symbol, row.day) in seen:
            bad.add(row.day)
        if row.fault != "field":
            seen.add((row.symbol, row.day))
    return {(row.symbol, row.day): row.close for row in rows if row.day not in bad}


def bars_in(connection: psycopg.Connection[Any]) -> Bars:
    return {(symbol, day): int(close) for symbol, day, close in connection.execute(BARS)}


@pytest.fixture
def connection(tables: Postgres) -> Iterator[psycopg.Connection[Any]]:
    with closing(tables.connect()) as made:
        yield made


def load_text(connection: psycopg.Connection[Any], text: Text) -> tuple[Loaded, Refused]:
    refused = Refused()
    with connection.transaction():
        loaded = load(connection, (BarFile(io.BytesIO(text.content), refused),), refused)
    connection.execute("DROP TABLE staged")  # as at the end of a transaction that is not within another
    return loaded, refused


@examples(JUDGED_EXAMPLES, fixtures_shared=True)
@given(rows(faults=()).flatmap(files), FILES)
def test_a_day_is_loaded_completely_or_not_at_all(
    connection: psycopg.Connection[Any], before: Text, after: Text
) -> None:
    """A day with a bad row is what it was; of every other one each row is there."""
    with connection.transaction(force_rollback=True):
        load_text(connection, before)
        there = bars_in(connection)
        assert there == complete_days([*before.rows.values()])
        loaded, refused = load_text(connection, after)
        wanted = complete_days([*after.rows.values()])
        assert bars_in(connection) == there | wanted
        assert (set(loaded.days), loaded.rows) == ({day for _, day in wanted}, len(wanted))
        days = {row.day for row in after.rows.values()}
        assert refused.anywhere or refused.days == days - set(loaded.days)


@pytest.fixture
def owned(tables: Postgres, migrated: Alembic) -> Postgres:
    """The test's database as its owner sees it, who may take everything out of it."""
    return replace(migrated.database, name=tables.name)


@examples(JUDGED_EXAMPLES, fixtures_shared=True)
@given(st.lists(rows(), min_size=1, max_size=2).flatmap(lambda many: st.tuples(*(files(rows) for rows in many))))
def test_a_sync_after_the_mend_has_every_day_complete(
    tables: Postgres, owned: Postgres, texts: tuple[Text, ...]
) -> None:
    """A sync of files with bad rows fails and loads the other days; when the rows are right, the next one has all."""
    owned.query("TRUNCATE stocks, daily_bars, sync_runs CASCADE")
    every = [row for text in texts for row in text.rows.values()]
    with tempfile.TemporaryDirectory() as folder, closing(tables.connect()) as connection:
        for number, text in enumerate(texts):
            (Path(folder) / f"{number}.csv").write_bytes(text.content)
        settings = settings_for(tables, csv_dir=Path(folder))
        complete = complete_days(every)
        result = sync(settings)
        assert bars_in(connection) == complete
        assert result.outcome == ("done" if {row.day for row in every} == {day for _, day in complete} else "failed")
        whole = {(row.symbol, row.day): row.close for row in every}
        mended = [Row(symbol, day, close) for (symbol, day), close in whole.items()]
        for path in Path(folder).iterdir():
            path.write_bytes(plain([]))
        (Path(folder) / "0.csv").write_bytes(plain(mended))
        assert sync(settings).outcome == "done"
        assert bars_in(connection) == whole
        assert sync(settings).days == 0


def plain(rows: Sequence[Row]) -> bytes:
    """Return a file of these rows as a program writes it."""
    lines = [",".join(row.fields[column] for column in COLUMNS) for row in rows]
    return "\n".join([",".join(COLUMNS), *lines, ""]).encode()
