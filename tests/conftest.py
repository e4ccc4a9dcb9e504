"""Fixtures for every test."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import environment
from tests.support.sandbox import (
    RUN_PREFIX,
    Sandbox,
    remove_leftovers,
    remove_orphaned_leftovers,
    remove_test_image,
    sandbox,
)

environment.begin()

#: Whether a test of this session, or of one of its workers, used the engine.
_USED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove what earlier, killed runs left behind, and at the end whatever is left of this one."""
    remove_orphaned_leftovers()
    yield
    remove_leftovers(RUN_PREFIX)
    request.config.stash[_USED] = True
    if (told := getattr(request.config, "workeroutput", None)) is not None:
        told["used"] = True


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Refuse tests with the same id: under xdist they count as one, and only one of them runs."""
    doubled = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if doubled:
        raise pytest.UsageError(f"several tests have the same id: {', '.join(doubled)}")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker tells at its end; one that was killed tells nothing."""
    if getattr(node, "workeroutput", {}).get("used"):
        node.config.stash[_USED] = True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take the image away that the workers share, when the last of them has ended."""
    if session.config.stash.get(_USED, False) and not hasattr(session.config, "workerinput"):
        remove_test_image()


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder for sockets, whose paths have at most 107 characters: those of pytest's own may be longer."""
    with tempfile.TemporaryDirectory(prefix="sh-") as name:
        yield Path(name)


@pytest.fixture
def project(swept: None, tmp_path: Path) -> Iterator[Sandbox]:
    """A project of the test's own, not up yet."""
    with sandbox(tmp_path) as made:
        yield made
