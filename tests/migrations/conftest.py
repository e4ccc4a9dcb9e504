"""Alembic as the container runs it: a process of its own, with the environment as its only input."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.alembic import Alembic, alembic_on
from tests.support.postgres import Postgres, database, postgres

__all__ = ["database", "postgres"]


@pytest.fixture
def alembic(database: Postgres) -> Iterator[Alembic]:
    """Alembic on an empty database, with a role of the test's own."""
    with alembic_on(database) as made:
        yield made


@pytest.fixture(scope="module")
def at_head(postgres: Postgres) -> Iterator[Alembic]:
    """A migrated database, for tests that find nothing but refusals there."""
    with postgres.new_database() as database, alembic_on(database) as made:
        made.run("upgrade", "head")
        yield made
