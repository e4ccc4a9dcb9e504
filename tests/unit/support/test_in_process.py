"""A command in the test's process may leave nothing in it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import in_process
from tests.support.in_process import nothing_left, run_in_process


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "PATIENCE", 0.2)


def leave_thread() -> Callable[[], object]:
    end = threading.Event()
    threading.Thread(target=end.wait, name="left").start()
    return end.set


def leave_descriptor() -> Callable[[], object]:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    return lambda: os.close(descriptor)


def leave_child() -> Callable[[], object]:
    child = subprocess.Popen(["sleep", "600"])

    def end() -> None:
        child.kill()
        child.wait()

    return end


def leave_handler() -> Callable[[], object]:
    before = signal.signal(signal.SIGUSR2, lambda number, frame: None)
    return lambda: signal.signal(signal.SIGUSR2, before)


def leave_variable() -> Callable[[], object]:
    os.environ["LEFT"] = "1"
    return lambda: os.environ.pop("LEFT")


def leave_folder() -> Callable[[], object]:
    before = Path.cwd()
    os.chdir("/")
    return lambda: os.chdir(before)


@pytest.mark.parametrize(
    ("leave", "kind"),
    [
        (leave_thread, "threads"),
        (leave_descriptor, "descriptors"),
        (leave_child, "children"),
        (leave_handler, "handlers"),
        (leave_variable, "variables"),
        (leave_folder, "folder"),
    ],
)
def test_what_a_command_leaves_is_named(leave: Callable[[], Callable[[], object]], kind: str) -> None:
    take_back: Callable[[], object] = lambda: None  # noqa: E731
    try:
        with pytest.raises(AssertionError, match=kind), nothing_left():
            take_back = leave()
    finally:
        take_back()


def test_command_that_leaves_nothing_passes(tmp_path: Path) -> None:
    code, out, err = run_in_process(["--version"], tmp_path, dict(os.environ))
    assert (code, out.startswith("stockhelper "), err) == (0, True, "")


def test_command_has_the_folder_and_environment_it_is_given(tmp_path: Path) -> None:
    elsewhere = tmp_path / "folder"
    elsewhere.mkdir()
    before = Path.cwd(), dict(os.environ)
    code, _, err = run_in_process(["config"], elsewhere, {"PATH": os.environ["PATH"]})
    assert code == 3
    assert str(elsewhere) in err
    assert (Path.cwd(), dict(os.environ)) == before
