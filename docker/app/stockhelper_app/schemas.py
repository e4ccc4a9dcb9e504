"""What comes in and what goes out, as pydantic models: input is checked by them, and openapi.json is made of all.

Answers are not put through them: they come from typed columns, and the tests hold every answer against its model.
"""

import base64
import binascii
import datetime as dt
import re
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from stockhelper_app.bars import SYMBOL

_T = TypeVar("_T")

#: The largest bigint.
_BIGGEST = 2**63 - 1
_LONGEST_CURSOR = 64
#: Text without control characters, of which PostgreSQL does not take NUL.
NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]*$"
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Input(BaseModel):
    """What a caller sends; a name that is not known is a mistake, not something to pass over."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _day(value: Any) -> Any:
    # Not pydantic's own reading: it takes numbers for seconds, and times that happen to be midnight. Nor Python's
    # alone, which knows days of weeks.
    if isinstance(value, str) and _DAY.fullmatch(value):
        return dt.date.fromisoformat(value)
    raise ValueError("is not a day such as 2026-11-20")


def encode_cursor(position: str | int) -> str:
    """Return the cursor of the page after this position."""
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def _decode_cursor(value: Any) -> str:
    if isinstance(value, str) and len(value) <= _LONGEST_CURSOR:
        try:
            return base64.b64decode(value + "=" * (-len(value) % 4), altchars="-_", validate=True).decode("ascii")
        except (binascii.Error, UnicodeError):
            pass
    raise ValueError(_NO_CURSOR)


def _symbol_cursor(value: Any) -> str:
    position = _decode_cursor(value)
    if not SYMBOL.fullmatch(position):
        raise ValueError(_NO_CURSOR)
    return position


def _id_cursor(value: Any) -> int:
    position = _decode_cursor(value)
    if not position.isdecimal() or int(position) > _BIGGEST:
        raise ValueError(_NO_CURSOR)
    return int(position)


_NO_CURSOR = "is not a cursor that this service gave out"

Symbol = Annotated[
    str, Field(pattern=rf"^{SYMBOL.pattern}$", description="six digits and an exchange", examples=["600519.SH"])
]
Day = Annotated[dt.date, BeforeValidator(_day, json_schema_input_type=dt.date)]
Limit = Annotated[int, Field(ge=1, le=1000, description="the most items of a page")]
_Cursor = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", max_length=_LONGEST_CURSOR)]
SymbolCursor = Annotated[str, BeforeValidator(_symbol_cursor, json_schema_input_type=_Cursor)]
IdCursor = Annotated[int, BeforeValidator(_id_cursor, json_schema_input_type=_Cursor)]
#: A decimal number, written with all its digits.
Exact = Annotated[Decimal, WithJsonSchema({"type": "number"})]


class OneStock(Input):
    """The path to one share."""

    symbol: Symbol


class StocksQuery(Input):
    """Which shares, and which page of them."""

    q: Annotated[str, Field(min_length=1, max_length=50, pattern=NO_CONTROLS)] | None = Field(
        None, description="the beginning of a symbol, or a part of a name"
    )
    limit: Limit = 100
    cursor: SymbolCursor | None = Field(None, description="`next` of the page before")


class WatchlistQuery(Input):
    """Which page of the watchlist."""

    limit: Limit = 1000
    cursor: SymbolCursor | None = Field(None, description="`next` of the page before")


class RunsQuery(Input):
    """Which page of the runs."""

    limit: Limit = 50
    cursor: IdCursor | None = Field(None, description="`next` of the page before")


class _Days(Input):
    first: Day | None = Field(None, alias="from", description="the first day")
    last: Day | None = Field(None, alias="to", description="the last day")

    @model_validator(mode="after")
    def _in_order(self) -> "_Days":
        if self.first and self.last and self.first > self.last:
            raise ValueError("from is after to")
        return self


class BarsQuery(_Days):
    """Which days, and how prices are made comparable over dividends and splits."""

    adjust: Literal["none", "forward", "backward"] = Field(
        "none",
        description="none: as they were traded; backward: times the day's adjustment factor; forward: times the day's"
        " factor, divided by that of the share's latest bar",
    )


class SyncDays(_Days):
    """The days to fetch again; by default those that are missing."""


class Page(BaseModel, Generic[_T]):
    """A page of items; `next` is the cursor of the one after it, null on the last."""

    items: list[_T]
    next: str | None


class About(BaseModel):
    """Who answers."""

    name: str
    version: str


class Health(BaseModel):
    """Whether the service and its database answer."""

    status: Literal["ok", "error"]
    database: Literal["connected", "disconnected"]


class Live(BaseModel):
    """This process answers."""

    status: Literal["ok"]


class StockOut(BaseModel):
    """A share."""

    symbol: Symbol
    name: str
    exchange: Literal["SH", "SZ", "BJ"]
    listing_date: dt.date | None


class Bar(BaseModel):
    """One trading day of Asia/Shanghai: prices in yuan, volume in shares, turnover in yuan; all of them exact."""

    trade_date: dt.date
    open: Exact
    high: Exact
    low: Exact
    close: Exact
    volume: int
    turnover: Exact
    adjustment_factor: Exact


class Bars(BaseModel):
    """The bars of a share, the oldest first."""

    symbol: Symbol
    adjust: Literal["none", "forward", "backward"]
    bars: list[Bar]


class Watched(BaseModel):
    """A share on the watchlist, with its last bar; the change (in %) is to the bar before, dividends and splits out."""

    symbol: Symbol
    name: str
    added_at: dt.datetime
    trade_date: dt.date | None
    close: float | None
    change_percent: float | None


class Added(BaseModel):
    """A share that is on the watchlist now."""

    symbol: Symbol
    added_at: dt.datetime


class Run(BaseModel):
    """One time that bars were brought in; it covers the trading days from the first to the last."""

    id: int
    job: Literal["sync", "import"]
    source: str
    started_at: dt.datetime
    finished_at: dt.datetime | None
    first_day: dt.date | None
    last_day: dt.date | None
    rows: int
    changed: int
    outcome: Literal["running", "done", "failed", "interrupted"]
    error: str | None


class Started(BaseModel):
    """The sync is at work."""

    status: Literal["started"]


class FaultOut(BaseModel):
    """One thing that is wrong with a request."""

    where: Literal["path", "query", "body"]
    field: str
    detail: str


class Problem(BaseModel):
    """An error, as in RFC 9457."""

    type: Literal["about:blank"]
    title: str
    status: int
    request_id: str | None
    detail: str | None = None
    errors: list[FaultOut] = []
