"""The same stack in the hands of plain `docker compose`: brought up by either, seen and taken down by both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.e2e.steps import healthy, runs
from tests.support.sandbox import Sandbox, names_of, sandbox

pytestmark = [pytest.mark.engine, pytest.mark.compose]


@pytest.fixture(scope="module")
def composed(stack: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that plain `docker compose` has brought up; `stack` is named for its image."""
    with sandbox(tmp_path_factory.mktemp("composed")) as made:
        made.compose("up", "-d", "--wait")
        yield made


def test_compose_starts_a_healthy_stack(composed: Sandbox) -> None:
    """Compose starts a healthy stack from the root of the project."""
    assert healthy(composed)
    assert composed.container("db")["State"]["Health"]["Status"] == "healthy"
    assert composed.container("app")["State"]["Health"]["Status"] == "healthy"
    assert composed.container("migrate")["State"]["ExitCode"] == 0


def test_up_adopts_what_compose_brought_up_and_changes_nothing(composed: Sandbox) -> None:
    before = runs(composed)

    result = composed.up()

    assert result.plan == []
    assert result.json["result"]["changed"] is False
    assert runs(composed) == before
    assert composed.run("status").code == 0


def test_down_removes_a_stack_of_compose_and_keeps_its_data(composed: Sandbox) -> None:
    """`down` removes a stack that Compose started, and Compose finds the data afterwards."""
    composed.psql("INSERT INTO stocks (symbol, name, exchange) VALUES ('600519.SH', 'Kweichow Moutai', 'SH')")

    assert composed.run("down").code == 0
    assert names_of(composed.name) == [f"{composed.name}_postgres_data"]

    composed.compose("up", "-d")
    assert composed.up().plan == []
    assert composed.psql("SELECT name FROM stocks") == "Kweichow Moutai"


def test_compose_finds_nothing_to_do_after_up(stack: Sandbox) -> None:
    said = stack.compose("--dry-run", "up", "-d").stderr

    states = re.findall(rf"{stack.name}-(db|app)-1 +(\w+)", said)
    assert ("db", "Running") in states
    assert ("app", "Running") in states
    assert "Create" not in said
    assert "Recreate" not in said


def test_compose_sees_what_up_brought_up(stack: Sandbox) -> None:
    seen = [json.loads(line) for line in stack.compose("ps", "--all", "--format", "json").stdout.splitlines()]

    assert {entry["Service"]: entry["State"] for entry in seen} == {
        "db": "running",
        "migrate": "exited",
        "app": "running",
    }
    assert stack.compose("exec", "-T", "app", "id", "-u").stdout == "10001\n"
    assert stack.name in stack.compose("ls").stdout


def test_compose_changes_nothing_that_up_brought_up(stack: Sandbox) -> None:
    before = runs(stack, "db", "app")

    stack.compose("up", "-d")

    assert runs(stack, "db", "app") == before
    assert stack.up().plan == []


def test_compose_removes_a_stack_of_up_and_keeps_its_data(stack: Sandbox) -> None:
    """Compose removes a stack that `up` started and keeps its data."""
    stack.compose("down")
    assert names_of(stack.name) == [f"{stack.name}_postgres_data"]

    stack.up()
    assert healthy(stack)
