"""The tables. Migrations follow these classes; `alembic check` says where they differ."""

import datetime as dt

from sqlalchemy import CheckConstraint, DateTime, MetaData, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


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
