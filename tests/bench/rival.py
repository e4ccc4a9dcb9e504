"""What the service answers, written as one usually writes it: FastAPI, objects of the ORM on asyncpg, pydantic models.

It has no token, no limits, no ETag, no metrics and no log but uvicorn's own, so it has less to do.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncIterator, Sequence
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import aliased

from stockhelper_app.models import DailyBar, Stock, WatchlistEntry

V1 = "/api/v1"

engine = create_async_engine(
    URL.create(
        "postgresql+asyncpg",
        username=os.environ["POSTGRES_USER"],
        password=os.environ["POSTGRES_PASSWORD"],
        host=os.environ["POSTGRES_HOST"],
        port=int(os.environ["POSTGRES_PORT"]),
        database=os.environ["POSTGRES_DB"],
    ),
    # As many as ours has.
    pool_size=5,
    max_overflow=0,
)
sessions = async_sessionmaker(engine)
api = FastAPI()


async def session() -> AsyncIterator[AsyncSession]:
    async with sessions() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


class Health(BaseModel):
    status: Literal["ok"]
    database: Literal["connected"]


class Watched(BaseModel):
    symbol: str
    name: str
    added_at: dt.datetime
    trade_date: dt.date | None
    close: float | None
    change_percent: float | None


class Watchlist(BaseModel):
    items: list[Watched]
    next: str | None


class Bar(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    trade_date: dt.date
    open: float
    high: float
    low: float
    close: float
    volume: int
    turnover: float
    adjustment_factor: float


class Bars(BaseModel):
    symbol: str
    adjust: Literal["none"]
    bars: list[Bar]


@api.get(f"{V1}/health")
async def health(session: Session) -> Health:
    await session.execute(text("SELECT 1"))
    return Health(status="ok", database="connected")


@api.get(f"{V1}/watchlist")
async def watchlist(session: Session, limit: Annotated[int, Query(ge=1, le=1000)] = 1000) -> Watchlist:
    entry = aliased(WatchlistEntry, select(WatchlistEntry).order_by(WatchlistEntry.symbol).limit(limit).subquery())
    newest = (
        select(DailyBar).where(DailyBar.symbol == entry.symbol).order_by(DailyBar.trade_date.desc()).limit(2).lateral()
    )
    bar = aliased(DailyBar, newest)
    found = await session.execute(
        select(entry, Stock, bar)
        .join(Stock, Stock.symbol == entry.symbol)
        .outerjoin(bar, true())
        .order_by(entry.symbol, bar.trade_date.desc())
    )
    items = []
    for _, rows in groupby(found, lambda row: row[0].symbol):
        (watched, stock, _), *_ = both = list(rows)
        bars = [bar for *_, bar in both if bar is not None]
        items.append(
            Watched(
                symbol=watched.symbol,
                name=stock.name,
                added_at=watched.added_at,
                trade_date=bars[0].trade_date if bars else None,
                close=float(bars[0].close) if bars else None,
                change_percent=change(bars),
            )
        )
    return Watchlist(items=items, next=None)


def change(bars: Sequence[DailyBar]) -> float | None:
    if len(bars) < 2:
        return None
    last, before = (bar.close * bar.adjustment_factor for bar in bars)
    return float(((last / before - 1) * 100).quantize(Decimal("0.01"), ROUND_HALF_UP))


@api.get(f"{V1}/stocks/{{symbol}}/bars", response_model=Bars)
async def bars(
    session: Session,
    symbol: str,
    first: Annotated[dt.date, Query(alias="from")] = dt.date.min,
    last: Annotated[dt.date, Query(alias="to")] = dt.date.max,
) -> dict[str, object]:
    if await session.get(Stock, symbol) is None:
        raise HTTPException(404, f"There is no share {symbol}.")
    found = await session.scalars(
        select(DailyBar)
        .where(DailyBar.symbol == symbol, DailyBar.trade_date.between(first, last))
        .order_by(DailyBar.trade_date)
    )
    return {"symbol": symbol, "adjust": "none", "bars": found.all()}
