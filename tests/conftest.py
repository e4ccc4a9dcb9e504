"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import RUN_PREFIX, Sandbox, remove_leftovers, remove_orphaned_leftovers, remove_test_image, sandbox


@pytest.fixture(scope="session")
def swept() -> Iterator[None]:
    """Remove what earlier, killed runs left behind, and at the end whatever is left of this one."""
    remove_orphaned_leftovers()
    yield
    remove_leftovers(RUN_PREFIX)
    remove_test_image()


@pytest.fixture
def project(swept: None, tmp_path: Path) -> Iterator[Sandbox]:
    """A project of the test's own, not up yet."""
    with sandbox(tmp_path) as made:
        yield made
