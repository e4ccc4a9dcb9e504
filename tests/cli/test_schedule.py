"""`backup schedule` as it is typed: it shows, asks, writes once, and takes out what it has written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockhelper_cli import schedule
from tests.cli.conftest import World


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cron's folder of a machine."""
    path = tmp_path / "cron.d"
    path.mkdir()
    monkeypatch.setattr(schedule, "place_here", lambda: schedule.CronFolder(path))
    return path


def test_nothing_is_written_unasked(world: World, folder: Path) -> None:
    asked = world.run("backup", "schedule")
    assert (asked.code, "17 3 * * *  root  " in asked.err) == (9, True)
    shown = world.run("backup", "schedule", "--show")
    assert (shown.code, "No backups are scheduled" in shown.out) == (0, True)
    assert list(folder.iterdir()) == []


def test_it_is_written_once_changed_on_demand_and_taken_out(world: World, folder: Path) -> None:
    def run(*arguments: str) -> bool:
        answer = world.run("backup", "schedule", *arguments, "--yes", "--json")
        assert answer.code == 0, answer.err
        return bool(json.loads(answer.out)["result"]["changed"])

    assert (run("--at", "04:05"), run("--at", "04:05"), run(), run("--show")) == (True, False, False, False)
    (file,) = folder.iterdir()
    assert "\n5 4 * * *  root  " in file.read_text()
    assert f" --directory {world.root} backup create " in file.read_text()
    assert run("--at", "04:06", "--hourly")
    assert "\n6 * * * *  root  " in file.read_text()
    assert (run("--remove"), run("--remove")) == (True, False)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["--at", "25:00"], ["--show", "--remove"], ["--at", "04:00", "--remove"]], ids=" ".join
)
def test_a_wrong_call_is_refused(world: World, folder: Path, arguments: list[str]) -> None:
    assert world.run("backup", "schedule", *arguments, "--yes").code == 2
    assert list(folder.iterdir()) == []
