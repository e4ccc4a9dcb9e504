"""The statements behind the API, one for each request, and the pages: built once, their rows are plain tuples.

Pages go on from a key (`WHERE symbol > …`), so that the hundredth costs what the first does.
"""

import datetime as dt
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    Float,
    ScalarSelect,
    Select,
    SQLColumnExpression,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import aliased
from sqlalchemy.sql.selectable import LateralFromClause

from stockhelper_app.models import DailyBar, Factor, Stock, SyncRun, WatchlistEntry

_SYMBOL: Final = bindparam("symbol", type_=Text)
_Q: Final = bindparam("q", type_=Text)
_AFTER: Final = bindparam("after", type_=Text)
_LIMIT: Final = bindparam("limit", type_=BigInteger)

_STOCKS: Final = select(Stock.symbol, Stock.name, Stock.exchange, Stock.listing_date)
ALL_STOCKS: Final = _STOCKS.where(Stock.symbol > _AFTER).order_by(Stock.symbol).limit(_LIMIT)
#: `q` is the beginning of a symbol, or a part of a name, in whatever case; no letter of it is a wildcard.
MATCHING_STOCKS: Final = ALL_STOCKS.where(
    or_(
        func.starts_with(Stock.symbol, func.upper(_Q)),
        func.strpos(func.lower(Stock.name), func.lower(_Q)) > 0,
    )
)
ONE_STOCK: Final = _STOCKS.where(Stock.symbol == _SYMBOL)


def _bars(*, adjusted: bool) -> Select[Any]:
    """Return the query of one share's bars: no row for a share that is not known, one of nulls where it has no bars.

    The numbers come as PostgreSQL writes them, exact; nothing reads and writes them again on the way. An adjusted price
    is price × factor ÷ `base`, computed in numeric and rounded once, to the four decimals that prices have.
    """
    prices: list[SQLColumnExpression[Any]] = [DailyBar.open, DailyBar.high, DailyBar.low, DailyBar.close]
    if adjusted:
        base = func.coalesce(bindparam("base", type_=Factor), _LATEST_FACTOR)
        prices = [func.round(price * DailyBar.adjustment_factor / base, 4) for price in prices]
    numbers = [*map(_plain, prices), cast(DailyBar.volume, Text)]
    numbers += [_plain(DailyBar.turnover), _plain(DailyBar.adjustment_factor)]
    of_the_share = and_(
        DailyBar.symbol == Stock.symbol,
        DailyBar.trade_date.between(bindparam("first", type_=Date), bindparam("last", type_=Date)),
    )
    return (
        select(cast(DailyBar.trade_date, Text), *numbers)
        .select_from(Stock)
        .outerjoin(DailyBar, of_the_share)
        .where(Stock.symbol == _SYMBOL)
        .order_by(DailyBar.trade_date)
    )


def _plain(number: SQLColumnExpression[Any]) -> ColumnElement[Any]:
    """Return a number's text without zeros at its end."""
    return cast(func.trim_scale(number), Text)


_latest = aliased(DailyBar)
_LATEST_FACTOR: Final = (
    select(_latest.adjustment_factor)
    .where(_latest.symbol == _SYMBOL)
    .order_by(_latest.trade_date.desc())
    .limit(1)
    .scalar_subquery()
)
_BARS: Final = _bars(adjusted=False)
#: As Tushare Pro defines it (its document 146 on adjusted prices): backward is price × the day's factor, forward that
#: divided by the latest factor. Here the latest is the share's, whatever days are asked for, so that a day's price does
#: not depend on them. `base` is 1 for backward, null for forward.
_ADJUSTED_BARS: Final = _bars(adjusted=True)


def bars(symbol: str, first: dt.date, last: dt.date, adjust: str) -> tuple[Select[Any], dict[str, object]]:
    """Return the query of a share's bars from one day to another, and its parameters; `adjust` as in `BarsQuery`."""
    given: dict[str, object] = {"symbol": symbol, "first": first, "last": last}
    if adjust == "none":
        return _BARS, given
    return _ADJUSTED_BARS, {**given, "base": 1 if adjust == "backward" else None}


def _last_bar(symbol: SQLColumnExpression[str]) -> LateralFromClause:
    """Return a share's last bar beside its row, with the change to the bar before, dividends and splits out."""
    value = DailyBar.close * DailyBar.adjustment_factor
    # The window looks one row ahead on the way down the primary key, and stops there.
    before = func.lead(value).over(order_by=DailyBar.trade_date.desc())
    return (
        select(
            DailyBar.trade_date,
            DailyBar.close,
            func.round(DailyBar.close * (1 - before / value), 4).label("change"),
            func.round((value / before - 1) * 100, 2).label("change_percent"),
        )
        .where(DailyBar.symbol == symbol)
        .order_by(DailyBar.trade_date.desc())
        .limit(1)
        .lateral("last")
    )


_last_watched = _last_bar(WatchlistEntry.symbol)


def _watchlist(*columns: SQLColumnExpression[Any]) -> Select[Any]:
    return (
        select(WatchlistEntry.symbol, Stock.name, WatchlistEntry.added_at, _last_watched.c.trade_date, *columns)
        .select_from(WatchlistEntry)
        .join(Stock, Stock.symbol == WatchlistEntry.symbol)
        .outerjoin(_last_watched, true())
        .where(WatchlistEntry.symbol > _AFTER)
        .order_by(WatchlistEntry.symbol)
        .limit(_LIMIT)
    )


WATCHLIST: Final = _watchlist(
    # Twelve digits at most, which a double holds: it prints as the number that it was.
    cast(_last_watched.c.close, Float(53)).label("close"),
    cast(_last_watched.c.change_percent, Float(53)).label("change_percent"),
)

_insert = insert(WatchlistEntry)
#: No row when the share is not known. One that is on the list already stays as it is; the update is there because only
#: a row that was written is returned, and xmax tells whether it is new.
WATCH: Final = (
    _insert.from_select(["symbol"], select(Stock.symbol).where(Stock.symbol == _SYMBOL))
    .on_conflict_do_update(index_elements=["symbol"], set_={"symbol": _insert.excluded.symbol})
    .returning(
        WatchlistEntry.symbol, WatchlistEntry.added_at, literal_column("watchlist.xmax = 0", Boolean).label("created")
    )
)
UNWATCH: Final = delete(WatchlistEntry).where(WatchlistEntry.symbol == _SYMBOL)

RUNS: Final = (
    select(
        SyncRun.id,
        SyncRun.job,
        SyncRun.source,
        SyncRun.started_at,
        SyncRun.finished_at,
        SyncRun.first_day,
        SyncRun.last_day,
        SyncRun.rows,
        SyncRun.changed,
        SyncRun.outcome,
        SyncRun.error,
    )
    .where(SyncRun.id < bindparam("before", type_=BigInteger))
    .order_by(SyncRun.id.desc())
    .limit(_LIMIT)
)

OUTCOMES: Final = ("running", "done", "failed", "interrupted")


def _failures() -> ScalarSelect[int]:
    """Count the syncs that did not end well since one did."""
    run, well = aliased(SyncRun), aliased(SyncRun)
    last = select(func.max(well.id)).where(well.job == "sync", well.outcome == "done").scalar_subquery()
    return (
        select(func.count())
        .where(run.job == "sync", run.outcome.in_(("failed", "interrupted")), run.id > func.coalesce(last, 0))
        .scalar_subquery()
    )


#: When the newest verified backup was made, as `stockhelper backup` leaves it with the database: a setting of its own.
#: NULL where it has left none.
_BACKED_UP: Final = literal_column(
    r"""(
    SELECT max(substring(entry FROM '^stockhelper\.backed_up=(\d{1,15})$')::bigint)
    FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase CROSS JOIN unnest(setconfig) AS entry
    WHERE datname = current_database() AND setrole = 0
    )""",
    BigInteger,
)
#: For the metrics, one row; times are seconds since 1970: when a sync last ended well, how many have failed since, when
#: bars were first brought in, the last day that was loaded, when the newest verified backup was made, how many rows all
#: runs brought, and how many of them had which outcome.
STATE: Final = select(
    func.extract("epoch", func.max(SyncRun.finished_at).filter(SyncRun.job == "sync", SyncRun.outcome == "done")),
    _failures(),
    func.extract("epoch", func.min(SyncRun.started_at).filter(SyncRun.rows > 0)),
    func.extract("epoch", func.max(SyncRun.last_day)),
    _BACKED_UP,
    func.coalesce(func.sum(SyncRun.rows), 0),
    *(func.count().filter(SyncRun.outcome == outcome) for outcome in OUTCOMES),
)

# --- for pages
#: How many closes the line beside a share goes through.
_TREND: Final = 60

_closes = (
    select(cast(DailyBar.close * DailyBar.adjustment_factor, Float(53)))
    .where(DailyBar.symbol == WatchlistEntry.symbol)
    .order_by(DailyBar.trade_date.desc())
    .limit(_TREND)
    .scalar_subquery()
)
#: The watchlist with the last closes of each share, the newest first, in a unit that is the share's own.
WATCHED: Final = _watchlist(
    _last_watched.c.close,
    _last_watched.c.change,
    _last_watched.c.change_percent,
    func.array(_closes, type_=ARRAY(Float(53))).label("trend"),
)

_watched = exists().where(WatchlistEntry.symbol == Stock.symbol).label("watched")
SOME: Final = ALL_STOCKS.add_columns(_watched)
FOUND: Final = MATCHING_STOCKS.add_columns(_watched)

_last = _last_bar(Stock.symbol)
#: One share with its last bar, of nulls where it has none.
SHOWN: Final = ONE_STOCK.add_columns(_watched, *_last.c).outerjoin(_last, true())

_last_day = select(func.max(DailyBar.trade_date).label("last_day")).subquery()
_last_sync = (
    select(SyncRun.started_at, SyncRun.rows, SyncRun.outcome, SyncRun.error)
    .where(SyncRun.job == "sync")
    .order_by(SyncRun.id.desc())
    .limit(1)
    .subquery()
)
#: One row: the last day that there are bars of, and the last sync, of nulls where there was none.
DATA_STATE: Final = select(_last_day, _last_sync).select_from(_last_day).outerjoin(_last_sync, true())
