"""CSV files of bars, read line by line: what is taken, and what is said of the rest."""

from __future__ import annotations

import datetime as dt
import io
import tracemalloc

import pytest

from stockhelper_app.bars import COLUMNS, BarFile, Refused, UnusableFile, today

HEADER = ",".join(COLUMNS)
GOOD = "600519.SH,2026-11-20,1460.00,1472.5,1451.2,1468.8,2413300,3529120000.00,8.1234"


def read(text: str | bytes, **options: object) -> tuple[list[str], Refused]:
    refused = Refused()
    data = text.encode() if isinstance(text, str) else text
    file = BarFile(io.BytesIO(data), refused, **options)  # type: ignore[arg-type]
    return [line.decode().rstrip("\n") for line in file], refused


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        "600519.SH,20261120,1460,1472.5,1451.,1468.8,2413300.0,3529120000,",
        "000001.SZ,2026-11-20,10,10,10,10,0,0,1",
    ],
)
def test_a_usual_row_goes_through_as_it_is(row: str) -> None:
    assert read(f"{HEADER}\n{row}\n") == ([f"2,{row}"], Refused())


@pytest.mark.parametrize("row", [GOOD.replace("600519.SH", '"600519.SH"'), GOOD.replace(",", " , "), f"{GOOD}\r"])
def test_quotes_spaces_and_crlf_make_no_difference(row: str) -> None:
    """Quotes, spaces around commas and CRLF line endings make no difference."""
    assert read(f"{HEADER}\n{row}\n") == ([f"2,{GOOD}"], Refused())


def test_lines_are_counted_with_those_that_are_empty_or_comments() -> None:
    lines, refused = read(f"\ufeff# made up\n{HEADER}\n\n{GOOD}\n# more\n{GOOD[:9]}\n{GOOD}")
    assert [line.split(",")[0] for line in lines] == ["4", "7"]
    assert [row.line for row in refused.rows] == [6]


@pytest.mark.parametrize("end", ["\n# made up", "\r\n\r\n# made up\r\n", "\r\n# made up", "\n\r"])
def test_empty_lines_and_comments_end_a_file_in_any_way(end: str) -> None:
    """A line is empty or a comment whatever its end, also where it is the last one and has none."""
    assert read(f"{HEADER}\n{GOOD}{end}") == ([f"2,{GOOD}"], Refused())


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_byte_order_mark_that_comes_in_pieces_is_dropped(size: int) -> None:
    """A pipe may give less than the mark at a time."""

    class Pipe(io.BytesIO):
        def read(self, most: int | None = -1, /) -> bytes:
            return super().read(size)

    refused = Refused()
    assert list(BarFile(Pipe(f"\ufeff{HEADER}\n{GOOD}\n".encode()), refused)) == [f"2,{GOOD}\n".encode()]
    assert refused == Refused()


def test_columns_may_come_in_any_order_and_the_factor_not_at_all() -> None:
    refused = Refused()
    file = BarFile(
        io.BytesIO(b"trade_date,symbol,close,low,high,open,turnover,volume\n20261120,600519.SH,2,1,3,2,9,8\n"), refused
    )
    assert file.columns == ("trade_date", "symbol", "close", "low", "high", "open", "turnover", "volume")
    assert list(file) == [b"2,20261120,600519.SH,2,1,3,2,9,8\n"]
    assert file.days() == {dt.date(2026, 11, 20)}


@pytest.mark.parametrize(
    ("old", "new", "reason", "knows_its_day"),
    [
        ("600519.SH", "600519", "symbol is not six digits and an exchange, such as 600519.SH: '600519'", True),
        ("600519.SH", "600519.US", "symbol is not six digits and an exchange, such as 600519.SH: '600519.US'", True),
        ("1460.00", "abc", "open is not a price in yuan: 'abc'", True),
        ("1460.00", "", "open is not a price in yuan, but empty", True),
        ("1472.5", "-1472.5", "high is not a price in yuan: '-1472.5'", True),
        ("1468.8", "NaN", "close is not a price in yuan: 'NaN'", True),
        ("1468.8", "1e3", "close is not a price in yuan: '1e3'", True),
        ("1468.8", "99999999", "close is not a price in yuan: '99999999'", True),
        ("2413300", "2413300.5", "volume is not a whole number of shares: '2413300.5'", True),
        ("2413300", "１２", "volume is not a whole number of shares: '１２'", True),
        ("8.1234", "x", "adjustment_factor is not a number: 'x'", True),
        ("2026-11-20", "2026-02-30", "trade_date is not a day, such as 2026-11-20: '2026-02-30'", False),
        ("2026-11-20", "20.11.2026", "trade_date is not a day, such as 2026-11-20: '20.11.2026'", False),
        ("2026-11-20", "2099-01-04", "trade_date is in the future: 2099-01-04", False),
        ("8.1234", "8.1234,x", "has 10 fields where there are 9 columns: ", False),
        (",8.1234", "", "has 8 fields where there are 9 columns: ", False),
        ("600519.SH", '"600519.SH', "has an open quote where there are 9 columns: ", False),
        ("600519.SH", "6\x00519.SH", "symbol is not six digits and an exchange, such as 600519.SH: '6\\x0", True),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_by_line_and_reason(old: str, new: str, reason: str, knows_its_day: bool) -> None:
    lines, refused = read(f"{HEADER}\n{GOOD}\n{GOOD.replace(old, new)}\n")
    assert len(lines) == 1
    (row,) = refused.rows
    assert row.line == 3
    assert row.reason.startswith(reason)
    assert (row.day, refused.anywhere) == ((dt.date(2026, 11, 20), False) if knows_its_day else (None, True))


def test_today_counts_and_tomorrow_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = today()
    monkeypatch.setattr("stockhelper_app.bars.today", lambda: now)  # midnight may be near
    days = [now, now + dt.timedelta(days=1)]
    lines, refused = read(HEADER + "\n" + "\n".join(GOOD.replace("2026-11-20", day.isoformat()) for day in days))
    assert (len(lines), refused.count) == (1, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("# nothing\n\n", "it is empty"),
        (GOOD, "line 1 does not name the columns; the columns are symbol,"),
        (HEADER.replace("close", "last"), "line 1 names an unknown column, 'last'; the columns are"),
        (HEADER.replace(",close", ""), "line 1 does not name the column close; the columns are"),
        (HEADER + ",open", "line 1 names a column twice"),
        (HEADER.encode("utf-16"), "line 1 does not name the columns"),
        (b"\x89PNG\r\n\x1a\n" * 10000, "line 1 does not name the columns"),
        (b"\0" * 1_000_000, "line 1 does not name the columns"),
    ],
)
def test_a_file_that_is_none_is_told_by_its_header(text: str | bytes, reason: str) -> None:
    with pytest.raises(UnusableFile, match=reason.replace("(", r"\(")):
        read(text)


def test_only_the_days_that_are_wanted_are_yielded() -> None:
    other = GOOD.replace("2026-11-20", "2026-11-19")
    lines, refused = read(f"{HEADER}\n{GOOD}\n{other}\n", only={dt.date(2026, 11, 19)}, before=100)
    assert lines == [f"103,{other}"]
    assert refused == Refused()


@pytest.mark.parametrize(
    ("line", "size"),
    # Each bad row that was kept would take 200 bytes.
    [(f"{GOOD}\n".encode(), 2_000_000), (b"not a row\n", 500_000), (b"no line end at all", 2_000_000)],
    ids=["good", "bad", "endless"],
)
def test_memory_does_not_grow_with_the_file(line: bytes, size: int) -> None:
    whole = size

    class Endless(io.RawIOBase):
        left = whole

        def read(self, size: int = -1, /) -> bytes:
            if self.left == whole:
                self.left -= 1
                return HEADER.encode() + b"\n"
            self.left -= size
            return (line * (size // len(line) + 1))[:size] if self.left > 0 else b""

    tracemalloc.start()
    try:
        refused = Refused()
        for _ in BarFile(Endless(), refused):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
    assert len(refused.rows) <= 1000
