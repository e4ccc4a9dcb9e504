"""Alembic on databases of a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.alembic import Alembic, alembic_on, at_head, migrated_copy
from tests.support.postgres import Postgres, database, postgres

__all__ = ["at_head", "database", "postgres"]


@pytest.fixture
def alembic(database: Postgres) -> Iterator[Alembic]:
    """Alembic on an empty database, with a role of the test's own."""
    with alembic_on(database) as made:
        yield made


@pytest.fixture
def migrated(at_head: Alembic) -> Iterator[Alembic]:
    """Alembic on a migrated database of the test's own, with a role of its own."""
    with migrated_copy(at_head) as made:
        yield made
