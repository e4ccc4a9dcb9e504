"""Create stocks.

Revises:
Created: 2026-11-23
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "stocks",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("listing_date", sa.Date(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(r"symbol ~ '^[0-9]{6}\.(SH|SZ|BJ)$'", name=op.f("ck_stocks_symbol_form")),
        sa.CheckConstraint("exchange = split_part(symbol, '.', 2)", name=op.f("ck_stocks_exchange_of_symbol")),
        sa.CheckConstraint("name <> ''", name=op.f("ck_stocks_name_given")),
        sa.PrimaryKeyConstraint("symbol", name=op.f("pk_stocks")),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("stocks")
