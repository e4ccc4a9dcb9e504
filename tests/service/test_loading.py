"""Bars on their way into a real PostgreSQL, as the application's role."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from stockhelper_app.bars import COLUMNS, BarFile, Refused
from stockhelper_app.loading import Loaded, load
from tests.support.postgres import Postgres

HEADER = ",".join(COLUMNS)
BARS = "SELECT symbol, trade_date::text, close, volume, adjustment_factor FROM daily_bars ORDER BY 1, 2"


@pytest.fixture
def connection(tables: Postgres) -> Iterator[psycopg.Connection[Any]]:
    with closing(tables.connect()) as made:
        yield made


def bar(symbol: str, day: str, close: str = "10", factor: str = "1", *, low: str = "1", volume: str = "100") -> str:
    return f"{symbol},{day},{close},{close},{low},{close},{volume},1000.5,{factor}"


def load_text(connection: psycopg.Connection[Any], *rows: str, header: str = HEADER) -> tuple[Loaded, Refused]:
    refused = Refused()
    with connection.transaction():
        file = BarFile(io.BytesIO("\n".join((header, *rows)).encode()), refused)
        return load(connection, (file,), refused), refused


def days(*texts: str) -> tuple[dt.date, ...]:
    return tuple(map(dt.date.fromisoformat, texts))


def reasons(refused: Refused) -> Sequence[tuple[int, str]]:
    return [(row.line, row.reason) for row in refused.rows]


def test_bars_are_loaded_and_their_shares_known(connection: psycopg.Connection[Any], tables: Postgres) -> None:
    rows = [bar("600519.SH", "2026-11-20", "1468.81", "8.1234", volume="2413300.0"), bar("000001.SZ", "2026-11-19")]
    loaded, refused = load_text(connection, *rows)
    assert (loaded, refused) == (Loaded(days("2026-11-19", "2026-11-20"), 2, 2), Refused())
    assert tables.query(BARS) == [
        ("000001.SZ", "2026-11-19", Decimal("10.0000"), 100, Decimal("1.000000")),
        ("600519.SH", "2026-11-20", Decimal("1468.8100"), 2413300, Decimal("8.123400")),
    ]
    assert tables.query("SELECT symbol, name, exchange FROM stocks ORDER BY 1") == [
        ("000001.SZ", "000001.SZ", "SZ"),
        ("600519.SH", "600519.SH", "SH"),
    ]


def test_what_is_there_already_is_not_written_again(connection: psycopg.Connection[Any], tables: Postgres) -> None:
    rows = [bar(f"60000{n}.SH", "2026-11-20") for n in range(5)]
    versions = "SELECT DISTINCT xmin::text FROM daily_bars"
    assert load_text(connection, *rows)[0].changed == 5
    (before,) = tables.query(versions)
    assert load_text(connection, *rows)[0] == Loaded(days("2026-11-20"), 5, 0)
    assert tables.query(versions) == [before]
    rows[3] = bar("600003.SH", "2026-11-20", "10.5")
    assert load_text(connection, *rows)[0] == Loaded(days("2026-11-20"), 5, 1)
    assert tables.query("SELECT close FROM daily_bars WHERE symbol = '600003.SH'") == [(Decimal("10.5000"),)]


def test_day_with_a_bad_row_is_unchanged_and_others_are_loaded(
    connection: psycopg.Connection[Any], tables: Postgres
) -> None:
    load_text(connection, bar("600000.SH", "2026-11-18", "7"))
    loaded, refused = load_text(
        connection,
        bar("600000.SH", "2026-11-17", "8"),
        bar("600000.SH", "2026-11-18", "8"),
        bar("600001.SH", "2026-11-18", "x"),
        bar("600000.SH", "2026-11-19", "8"),
        bar("600001.SH", "2026-11-19", "8", low="9"),
        bar("600002.SH", "2026-11-19", "8", factor="0"),
        bar("600000.SH", "2026-11-20", "8"),
    )
    assert loaded == Loaded(days("2026-11-17", "2026-11-20"), 2, 2)
    assert reasons(refused) == [
        (4, "open is not a price in yuan: 'x'"),
        (6, "low, open, close and high contradict each other, or are 0"),
        (7, "adjustment_factor is 0"),
    ]
    assert [(day, close) for _, day, close, *_ in tables.query(BARS)] == [
        ("2026-11-17", Decimal("8.0000")),
        ("2026-11-18", Decimal("7.0000")),
        ("2026-11-20", Decimal("8.0000")),
    ]
    # A share of which nothing was loaded is not there either.
    assert tables.query("SELECT symbol FROM stocks") == [("600000.SH",)]


def test_duplicate_rows_of_a_share_and_day_are_rejected(connection: psycopg.Connection[Any]) -> None:
    """All rows of the same share and day are rejected except the first, so the day is not loaded."""
    twice = bar("600000.SH", "2026-11-20")
    loaded, refused = load_text(connection, twice, bar("600001.SH", "2026-11-20"), twice, twice)
    assert loaded == Loaded()
    assert reasons(refused) == [(n, "is the same share and day as line 2") for n in (4, 5)]


def test_a_row_of_no_day_makes_every_day_doubtful(connection: psycopg.Connection[Any], tables: Postgres) -> None:
    loaded, _ = load_text(connection, bar("600000.SH", "2026-11-20"), bar("600001.SH", "yesterday"))
    assert loaded == Loaded()
    assert tables.query(BARS) == []


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (HEADER, bar("600000.SH", "{}", "9", "")),
        (HEADER.rpartition(",")[0], bar("600000.SH", "{}", "9").rpartition(",")[0]),
    ],
    ids=["field", "column"],
)
def test_a_factor_that_is_not_given_is_what_it_was_last(
    header: str, row: str, connection: psycopg.Connection[Any], tables: Postgres
) -> None:
    load_text(connection, bar("600000.SH", "2026-11-18", factor="2"), bar("600000.SH", "2026-11-19", factor="4"))
    rows = [row.format(day) for day in ("2026-11-17", "2026-11-18", "2026-11-20")]
    assert load_text(connection, *rows, header=header)[0].changed == 3
    factors = tables.query("SELECT trade_date::text, close, adjustment_factor FROM daily_bars ORDER BY 1")
    assert [(day, int(close), int(factor)) for day, close, factor in factors] == [
        ("2026-11-17", 9, 1),
        ("2026-11-18", 9, 2),
        ("2026-11-19", 10, 4),
        ("2026-11-20", 9, 4),
    ]


def test_nothing_of_a_load_that_breaks_off_is_seen(connection: psycopg.Connection[Any], tables: Postgres) -> None:
    class Breaking(BarFile):
        def __iter__(self) -> Iterator[bytes]:
            yield from super().__iter__()
            raise RuntimeError("gone")

    file = Breaking(io.BytesIO(f"{HEADER}\n{bar('600000.SH', '2026-11-20')}".encode()), refused := Refused())
    with pytest.raises(RuntimeError, match="gone"), connection.transaction():
        load(connection, (file,), refused)
    assert tables.query(BARS) == []
    assert load_text(connection, bar("600000.SH", "2026-11-20"))[0].rows == 1


@pytest.mark.parametrize(
    "row",
    [
        bar("600000.SH", "2026-11-20", "9999999.99999"),
        bar("600000.SH", "2026-11-20", "0.000000000000001", low="0.000000000000001"),
        bar("600000.SH", "2026-11-20", "1.00004", low="1.00003"),
        bar("600000.SH", "2026-11-20", volume="9" * 18),
        bar("600000.SH", "2026-11-20", factor="0.0000001"),
        bar("600000.SH", "2026-11-20", factor="999999999.9999999"),
    ],
)
def test_no_number_that_can_be_read_breaks_the_load(row: str, connection: psycopg.Connection[Any]) -> None:
    loaded, refused = load_text(connection, row)
    assert loaded.rows + refused.count == 1
