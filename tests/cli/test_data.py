"""`data import` and `data sync`: what is made of the answers of the programs in the app's container."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stockhelper_cli.engine.protocol import ExecResult
from tests.cli.conftest import World
from tests.support.snapshots import Snapshot

LOADED = {
    "rows": 5, "changed": 3, "days": 2, "first_day": "2026-11-19", "last_day": "2026-11-20", "bad_rows": 0, "bad": [],
    "refused_days": [], "error": None,
}  # fmt: skip
BAD = {
    "bad_rows": 3,
    "bad": [{"line": 4, "reason": "open is not a price in yuan: '[red]x'"}, {"line": 9, "reason": "is late"}],
    "refused_days": ["2026-11-17", "2026-11-18"],
}  # fmt: skip
SYNCED = {
    "outcome": "done", "source": "tushare", "days": 2, "first_day": "2026-11-19", "last_day": "2026-11-20", "rows": 9,
    "changed": 9, "error": None, "seconds": 1.5,
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "bars.csv"
    path.write_text("what is in it is the app's business")
    return str(path)


@pytest.fixture
def up(world: World) -> World:
    assert world.run("up", "-q").code == 0
    return world


def answers(world: World, *lines: dict[str, Any] | str, code: int = 0, said: str = "") -> list[Sequence[str]]:
    """Let the app's programs print these lines; return the commands that will have been run there."""
    printed = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n"
    commands: list[Sequence[str]] = []

    def answer(name: str, command: Sequence[str], typed: bytes) -> ExecResult:
        assert name == "stockhelper-app-1"
        commands.append(command)
        return ExecResult(code, printed.encode(), said.encode())

    world.engine.answer_input = answer
    return commands


def test_an_import_says_what_it_brought(up: World, file: str) -> None:
    commands = answers(up, {"result": LOADED})
    answer = up.run("data", "import", file)
    assert (answer.code, answer.out) == (
        0,
        "bars.csv: 5 bars of 2 days, 2026-11-19 to 2026-11-20; 3 new or different\n",
    )
    assert commands == [["python", "-m", "stockhelper_app.import_file", "bars.csv"]]


def test_bad_rows_are_named_and_exit_1(up: World, file: str, snapshot: Snapshot) -> None:
    answers(up, {"result": LOADED | BAD}, code=1)
    answer = up.run("data", "import", file)
    assert answer.code == 1
    snapshot(answer.out)


def test_a_file_that_cannot_be_used_exits_1_with_its_reason(up: World, file: str) -> None:
    answers(up, {"result": LOADED | {"error": "it is empty", "rows": 0, "days": 0}}, code=1)
    answer = up.run("data", "import", file, "--json")
    said = json.loads(answer.out)
    assert (answer.code, said["ok"], said["result"]["files"][0]["error"]) == (1, False, "it is empty")


@pytest.mark.parametrize("verb", ["import", "sync"])
def test_program_without_a_result_is_reported_with_its_output(up: World, file: str, verb: str) -> None:
    """If the program in the app ends without a result, the error shows its exit code and output."""
    answers(up, "not JSON", "[1]", code=137, said="Killed\n")
    answer = up.run("data", verb, *([file] if verb == "import" else []))
    assert answer.code == 1
    assert "broke off; nothing of what was under way is kept" in answer.err
    assert "ended with exit code 137" in answer.err
    for line in ("not JSON", "[1]", "Killed"):
        assert f"  | {line}\n" in answer.err


def test_a_sync_tells_its_batches_and_warnings(up: World, snapshot: Snapshot) -> None:
    commands = answers(
        up,
        {"event": "sync begins", "level": "info", "days": 2},
        {"event": "bars come without adjustment factors", "level": "warning", "reason": "not allowed"},
        {"event": "loaded", "level": "info", "last": "2026-11-20", "days": 2, "of": 2, "rows": 9},
        {"event": "sync ends", "level": "info", "result": SYNCED},
    )
    answer = up.run("data", "sync", "--to", "2026-11-20")
    assert answer.code == 0
    snapshot(answer.out + answer.err)
    assert commands == [["python", "-m", "stockhelper_app.sync", "--to", "2026-11-20"]]


@pytest.mark.parametrize(
    ("result", "code", "message"),
    [
        ({"outcome": "busy", "error": "another sync is at work"}, 8, "another sync is at work"),
        ({"outcome": "failed", "error": "tushare answers 502"}, 1, "the sync failed; 2 days were loaded before"),
        ({"outcome": "interrupted", "error": "it was stopped"}, 1, "the sync failed; 2 days were loaded before"),
    ],
)
def test_a_sync_that_does_not_succeed_says_why(up: World, result: dict[str, Any], code: int, message: str) -> None:
    answers(up, {"event": "sync ends", "result": SYNCED | result}, code=75)
    answer = up.run("data", "sync")
    assert answer.code == code
    assert f"error: {message}\n" in answer.err
