"""Fixtures for every test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
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
from tests.support.template import Template, remove_orphaned_templates, remove_template, template_of_run

pytest_plugins = ["tests.support.plugin", "tests.support.snapshots"]

environment.begin()

#: Whether a test of this session, or of one of its workers, used the engine.
_USED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove what earlier, killed runs left behind, and at the end whatever is left of this one."""
    remove_orphaned_leftovers()
    remove_orphaned_templates()
    yield
    remove_leftovers(RUN_PREFIX)
    request.config.stash[_USED] = True
    if (told := getattr(request.config, "workeroutput", None)) is not None:
        told["used"] = True


@pytest.fixture(scope="session")
def template(swept: None, request: pytest.FixtureRequest) -> Template:
    """An initialised database that stacks may begin with, one for all workers."""
    return template_of_run(getattr(request.config, "workerinput", {}).get("controller", os.getpid()))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker which process has started it."""
    node.workerinput["controller"] = os.getpid()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker tells at its end; one that was killed tells nothing."""
    if getattr(node, "workeroutput", {}).get("used"):
        node.config.stash[_USED] = True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take away what the workers share, when the last of them has ended."""
    if hasattr(session.config, "workerinput"):
        return
    remove_template(template_of_run(os.getpid()))
    if session.config.stash.get(_USED, False):
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
