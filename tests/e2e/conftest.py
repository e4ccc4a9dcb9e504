"""Stacks on the real engine, each under a name and a port of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.release import Release, own_release
from tests.support.sandbox import RUN_PREFIX, Sandbox, names_of, sandbox
from tests.support.template import Template


@pytest.fixture(scope="session", autouse=True)
def nothing_left(swept: None) -> Iterator[None]:
    """Fail the run that leaves a container, a network or a volume behind."""
    yield
    assert names_of(RUN_PREFIX) == []


@pytest.fixture(scope="session")
def stack(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that is up, for tests that look at it, or leave it as they found it."""
    with sandbox(tmp_path_factory.mktemp("stack")) as made:
        template.copy_into(made)
        made.up()
        yield made


@pytest.fixture(scope="module")
def released(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A stack that is up, with sources and an image of its own."""
    with own_release(tmp_path_factory.mktemp("release")) as made:
        template.copy_into(made.project)
        made.project.up()
        yield made


@pytest.fixture
def release(released: Release) -> Iterator[Release]:
    """The module's own release, up with an image that stockhelper built; what a test changes is undone for the next."""
    released.bring_up()
    yield released
    released.restore()
