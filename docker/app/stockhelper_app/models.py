"""The tables. Migrations follow these classes; `alembic check` says where they differ."""

import datetime as dt
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Numeric,
    Text,
    desc,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: Yuan for one share; the exchanges quote two or three decimals.
Price = Numeric(12, 4)
#: Yuan, to the fen.
Turnover = Numeric(20, 2)
#: What a price is multiplied by to be comparable over dividends and splits.
Factor = Numeric(16, 6)


class Base(DeclarativeBase):
    """The parent of every table; names each constraint, so that a migration can name it when it drops it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Stock(Base):
    """A listed share: six digits and its exchange, Shanghai (SH), Shenzhen (SZ) or Beijing (BJ)."""

    __tablename__ = "stocks"
    __table_args__ = (
        CheckConstraint(r"symbol ~ '^[0-9]{6}\.(SH|SZ|BJ)$'", name="symbol_form"),
        CheckConstraint("exchange = split_part(symbol, '.', 2)", name="exchange_of_symbol"),
        CheckConstraint("name <> ''", name="name_given"),
    )

    symbol: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    exchange: Mapped[str] = mapped_column(Text)
    listing_date: Mapped[dt.date | None]
    created_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


class DailyBar(Base):
    """One share's trading on one day of Asia/Shanghai, not adjusted for dividends and splits.

    Volume is in shares, turnover in yuan. Every bar's share is in `stocks`: loading sees to it, for whole files at a
    time; a foreign key would look at each row, and more than double what loading takes.
    """

    __tablename__ = "daily_bars"
    __table_args__ = (
        CheckConstraint("low > 0 AND low <= LEAST(open, close) AND high >= GREATEST(open, close)", name="prices"),
        CheckConstraint("volume >= 0 AND turnover >= 0", name="amounts"),
        CheckConstraint("adjustment_factor > 0", name="factor"),
        # The primary key answers for one share over days, this one for one day over shares.
        Index("ix_daily_bars_trade_date", "trade_date", "symbol"),
    )

    symbol: Mapped[str] = mapped_column(Text, primary_key=True)
    trade_date: Mapped[dt.date] = mapped_column(primary_key=True)
    open: Mapped[Decimal] = mapped_column(Price)
    high: Mapped[Decimal] = mapped_column(Price)
    low: Mapped[Decimal] = mapped_column(Price)
    close: Mapped[Decimal] = mapped_column(Price)
    volume: Mapped[int] = mapped_column(BigInteger)
    turnover: Mapped[Decimal] = mapped_column(Turnover)
    adjustment_factor: Mapped[Decimal] = mapped_column(Factor, server_default=text("1"))


class WatchlistEntry(Base):
    """A share that the user keeps an eye on."""

    __tablename__ = "watchlist"

    symbol: Mapped[str] = mapped_column(Text, ForeignKey("stocks.symbol", ondelete="CASCADE"), primary_key=True)
    added_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class SyncRun(Base):
    """One time that bars were brought in: a sync from the provider, or an import of a file.

    `source` is the provider or the file. All trading days from `first_day` to `last_day` were loaded, each of them
    whole; both are empty while none was. `rows` is how many bars came, `changed` how many of them were new or
    different. `error` is one line, without secrets.
    """

    __tablename__ = "sync_runs"
    __table_args__ = (
        CheckConstraint("job IN ('sync', 'import')", name="job"),
        CheckConstraint("outcome IN ('running', 'done', 'failed', 'interrupted')", name="outcome"),
        CheckConstraint("(outcome = 'running') = (finished_at IS NULL)", name="finished"),
        CheckConstraint("first_day <= last_day", name="days"),
        Index("ix_sync_runs_started_at", desc("started_at")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    job: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    started_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    first_day: Mapped[dt.date | None]
    last_day: Mapped[dt.date | None]
    rows: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    changed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    outcome: Mapped[str] = mapped_column(Text, server_default=text("'running'"))
    error: Mapped[str | None] = mapped_column(Text)
