"""The command among all that a shell, a script or a service manager may hand it as stdin, stdout and stderr."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.cli.calling import Project
from tests.cli.here import run_here
from tests.support.project import copy_project

#: Runs the command on a project, in a process of its own or in this one.
Run = Callable[..., CompletedProcess[str]]
#: What a shell shows for a process that wrote to a pipe which nobody reads any more.
NO_READER = 141
#: An environment in which Python takes every stream for ASCII.
ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def unread() -> Iterator[int]:
    """The end of a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture
def full() -> Iterator[int]:
    """A file on a disk that is full."""
    with Path("/dev/full").open("w") as file:
        yield file.fileno()


def whole(project: Project) -> bool:
    """Whether `up` went through to its last step."""
    return "start stockhelper-app-1" in project.calls


# --- what is said by the way goes nowhere, and the work goes on


def test_progress_that_nobody_reads_does_not_stop_the_work(project: Project, unread: int) -> None:
    done = project.run("up", stderr=unread)
    assert (done.returncode, whole(project)) == (0, True)
    assert "/api/v1/health" in done.stdout


def test_progress_that_finds_no_room_does_not_stop_the_work(project: Project, full: int) -> None:
    done = run_here(project, "up", stderr=full)
    assert (done.returncode, whole(project)) == (0, True)


def test_a_failure_that_nobody_reads_keeps_its_code(project: Project, unread: int) -> None:
    (project.root / ".env").unlink()
    assert run_here(project, "up", stderr=unread).returncode == 3


# --- the result


def test_unread_result_ends_with_broken_pipe_after_the_work(project: Project, unread: int) -> None:
    """If nobody reads the result, `up` finishes its work and exits like any tool with a broken pipe."""
    done = project.run("up", stdout=unread, stderr=unread)
    assert (done.returncode, whole(project)) == (NO_READER, True)


@pytest.mark.parametrize("arguments", ["status", "--help"])
def test_what_nobody_reads_is_no_error_worth_a_word(project: Project, unread: int, arguments: str) -> None:
    done = project.run(*arguments.split(), stdout=unread)
    assert (done.returncode, done.stderr) == (NO_READER, "")


@pytest.mark.parametrize(
    "arguments", ["config", "config --json", "version", "--version", "up --help", "completion bash"]
)
def test_no_verb_complains_of_a_result_nobody_reads(project: Project, unread: int, arguments: str) -> None:
    """As above, verb by verb."""
    done = run_here(project, *arguments.split(), stdout=unread)
    assert (done.returncode, done.stderr) == (NO_READER, "")


@pytest.mark.parametrize(
    ("arguments", "run"), [("config", Project.run), ("config --json", run_here), ("--help", run_here)]
)
def test_a_result_that_finds_no_room_is_told(project: Project, full: int, arguments: str, run: Run) -> None:
    done = run(project, *arguments.split(), stdout=full)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: could not write the result",
        "  why:  No space left on device",
    ]


# --- streams that are not there


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=["stdin", "stdout", "stderr", "all"])
def test_a_stream_that_is_closed_leads_nowhere(project: Project, closed: Sequence[int]) -> None:
    done = project.run("up", closed=closed)
    assert (done.returncode, whole(project)) == (0, True), done.stderr
    assert ("/api/v1/health" in done.stdout) == (1 not in closed)
    assert "Traceback" not in done.stderr


def test_what_asks_without_stdin_wants_a_confirmation(project: Project) -> None:
    done = project.run("down", "--volumes", "--no-backup", closed=[0])
    assert done.returncode == 9
    assert "there is no terminal to confirm it on" in done.stderr


# --- terminals


def lines(text: str) -> list[str]:
    """Return what stands on the screen's lines, without colours and the like."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()


def test_terminal_shows_progress_rows_and_restores_the_cursor(project: Project) -> None:
    """On a terminal, each resource has its own progress row, and the cursor is shown again at the end."""
    with project.on_terminal("up") as screen:
        assert screen.code() == 0
    assert "✓ container stockhelper-db-1" in screen.text
    assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")


@pytest.mark.parametrize("arguments", ["up", "up --dry-run", "status", "images list"])
def test_nothing_is_wider_than_a_narrow_screen(project: Project, arguments: str) -> None:
    with project.on_terminal(*arguments.split(), columns=40) as screen:
        assert screen.code() in (0, 1)
    assert [line for line in lines(screen.text) if len(line) > 40] == []


def test_a_terminal_without_utf_8_is_shown_plain_marks(project: Project) -> None:
    with project.on_terminal("up", environment=ASCII) as screen:
        assert screen.code() == 0
    assert "+ container stockhelper-db-1" in screen.text
    assert "✓" not in screen.text


@pytest.mark.parametrize("arguments", ["up", "status", "config", "config --json", "up --help"])
def test_a_pipe_without_utf_8_is_no_reason_to_fail(project: Project, arguments: str) -> None:
    path = project.root / ".env"
    path.write_text(path.read_text() + "CORS_ORIGINS='https://股票.example'\n", "utf-8")
    done = project.run(*arguments.split(), environment=ASCII)
    assert done.returncode == (1 if arguments == "status" else 0), done.stderr
    assert done.stdout.isascii()


# --- places


def test_subfolder_of_a_path_with_spaces_and_unicode_works(plain_environment: None, tmp_path: Path) -> None:
    """`up` and `status` work from a subfolder of a path with spaces and non-Latin letters."""
    root = tmp_path / "股票 助手 é"
    copy_project(root)
    project = Project(root, tmp_path / "calls")
    done = run_here(project, "up", cwd=root / "docker" / "app")
    assert (done.returncode, whole(project)) == (0, True), done.stderr
    assert run_here(project, "status", cwd=root / "migrations").returncode == 1
