"""Create daily bars, the watchlist and the runs that bring bars in.

Revises: 0001
Created: 2026-11-24
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "daily_bars",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("open", sa.Numeric(12, 4), nullable=False),
        sa.Column("high", sa.Numeric(12, 4), nullable=False),
        sa.Column("low", sa.Numeric(12, 4), nullable=False),
        sa.Column("close", sa.Numeric(12, 4), nullable=False),
        sa.Column("volume", sa.BigInteger(), nullable=False),
        sa.Column("turnover", sa.Numeric(20, 2), nullable=False),
        sa.Column("adjustment_factor", sa.Numeric(16, 6), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(
            "low > 0 AND low <= LEAST(open, close) AND high >= GREATEST(open, close)",
            name=op.f("ck_daily_bars_prices"),
        ),
        sa.CheckConstraint("volume >= 0 AND turnover >= 0", name=op.f("ck_daily_bars_amounts")),
        sa.CheckConstraint("adjustment_factor > 0", name=op.f("ck_daily_bars_factor")),
        sa.PrimaryKeyConstraint("symbol", "trade_date", name=op.f("pk_daily_bars")),
    )
    op.create_index("ix_daily_bars_trade_date", "daily_bars", ["trade_date", "symbol"])

    op.create_table(
        "watchlist",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["symbol"], ["stocks.symbol"], name=op.f("fk_watchlist_symbol_stocks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("symbol", name=op.f("pk_watchlist")),
    )

    op.create_table(
        "sync_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_day", sa.Date(), nullable=True),
        sa.Column("last_day", sa.Date(), nullable=True),
        sa.Column("rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("changed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("outcome", sa.Text(), server_default=sa.text("'running'"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("job IN ('sync', 'import')", name=op.f("ck_sync_runs_job")),
        sa.CheckConstraint(
            "outcome IN ('running', 'done', 'failed', 'interrupted')", name=op.f("ck_sync_runs_outcome")
        ),
        sa.CheckConstraint("(outcome = 'running') = (finished_at IS NULL)", name=op.f("ck_sync_runs_finished")),
        sa.CheckConstraint("first_day <= last_day", name=op.f("ck_sync_runs_days")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_runs")),
    )
    op.create_index("ix_sync_runs_started_at", "sync_runs", [sa.text("started_at DESC")])


def downgrade() -> None:
    """Take it back."""
    op.drop_table("sync_runs")
    op.drop_table("watchlist")
    op.drop_table("daily_bars")
