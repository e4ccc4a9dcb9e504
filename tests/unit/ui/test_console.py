"""What fits on a narrow terminal and how it is cut, and commands as they can be typed."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from stockhelper_cli.console import as_typed, table

HEADERS = ("SERVICE", "STATE", "PORTS", "IMAGE")
ROWS = [
    ("app", "running", "127.0.0.1:8000->8000/tcp", "localhost/stockhelper-app:latest"),
    ("migrate", "exited (0)", "", "localhost/stockhelper-app:latest"),
]


def shown(width: int) -> list[str]:
    console = RichConsole(file=StringIO(), width=width)
    console.print(table(HEADERS, ROWS))
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            80,
            [
                "SERVICE  STATE       PORTS                     IMAGE",
                "app      running     127.0.0.1:8000->8000/tcp  localhost/stockhelper-app:latest",
                "migrate  exited (0)                            localhost/stockhelper-app:latest",
            ],
        ),
        (
            64,
            [
                "SERVICE  STATE       PORTS                     IMAGE",
                "app      running     127.0.0.1:8000->8000/tcp  localhost/stockhe",
                "                                               lper-app:latest",
                "migrate  exited (0)                            localhost/stockhe",
                "                                               lper-app:latest",
            ],
        ),
        (
            50,
            [
                "SERVICE  STATE       PORTS",
                "app      running     127.0.0.1:8000->8000/tcp",
                "migrate  exited (0)",
            ],
        ),
        (24, ["SERVICE  STATE", "app      running", "migrate  exited (0)"]),
        (5, ["SERVI", "CE", "app", "migra", "te"]),
    ],
)
def test_table_wraps_last_column_and_drops_what_does_not_fit(width: int, lines: list[str]) -> None:
    """A table wraps only its last column and drops columns that do not fit."""
    assert shown(width) == lines


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (False, "mend APP_PORT, then: .venv/bin/stockhelper up -p x-stockhelper up"),
        (True, "mend APP_PORT, then: stockhelper up -p x-stockhelper up"),
    ],
    ids=["not on the path", "on the path"],
)
def test_suggested_command_has_its_path_if_not_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool, shown: str
) -> None:
    """A suggested command includes its path if the shell would not find it."""
    command = tmp_path / ".venv" / "bin" / "stockhelper"
    command.parent.mkdir(parents=True)
    command.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(command)])
    monkeypatch.setenv("PATH", str(command.parent if found else tmp_path))
    assert as_typed("mend APP_PORT, then: stockhelper up -p x-stockhelper up") == shown


def test_without_a_terminal_a_table_is_as_wide_as_what_is_in_it() -> None:
    assert str(table(HEADERS, ROWS)).splitlines() == shown(80)
