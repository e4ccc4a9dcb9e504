"""How a run of the tests is judged as a whole, on runs of a few tests of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.leftovers import RUN_VARIABLE

TESTS = """
import pytest

def test_one(): pass

@pytest.mark.slow
def test_slow(): pass
"""
WORKERS = ["-p", "xdist", "-n", "2", "--dist", "loadfile"]
MARKS = "[pytest]\nmarkers =\n    slow\n    long\n"


def pytest_run(folder: Path, *arguments: str, test_file: str = TESTS, conftest: str = "") -> tuple[int, str]:
    """Run pytest with the plugin in a folder of its own; return its exit code and what it said."""
    (folder / "pytest.ini").write_text(MARKS)
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text(test_file)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.support.plugin", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        # No engine: what it holds is no concern here.
        env={
            **{name: value for name, value in os.environ.items() if name not in (RUN_VARIABLE, "PYTEST_ADDOPTS")},
            "PYTHONPATH": str(ROOT),
            "DOCKER_HOST": "unix:///nowhere.sock",
            # None of the plugins that are installed has a part in it, and some take a second to import.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["--tier", "test"], ["test_one"]),
        (["--tier", "slow"], ["test_slow"]),
        (["--tier", "all"], ["test_one", "test_slow"]),
        (["--tier", "test", "test_it.py"], ["test_one", "test_slow"]),
        (["--tier", "test", "test_it.py::test_slow"], ["test_slow"]),
        (["--tier", "slow", "."], ["test_slow"]),
    ],
    ids=["test", "slow", "all", "file", "named", "folder"],
)
def test_tier_decides_what_runs(tmp_path: Path, arguments: list[str], passed: list[str]) -> None:
    code, said = pytest_run(tmp_path, "-v", *arguments)
    assert code == 0, said
    assert re.findall(r"::(\w+) PASSED", said) == passed


@pytest.mark.parametrize("workers", [[], WORKERS], ids=["alone", "workers"])
def test_equal_ids_are_refused(tmp_path: Path, workers: list[str]) -> None:
    twice = "def pytest_collection_modifyitems(items): items.append(items[0])"
    code, said = pytest_run(tmp_path, *workers, conftest=twice)
    assert code == 4, said
    assert "these ids stand for several tests" in said
    assert "test_it.py::test_one" in said


@pytest.mark.parametrize("workers", [[], WORKERS], ids=["alone", "workers"])
@pytest.mark.parametrize("named", ["test_it.py::test_on", "test_at.py"], ids=["test", "file"])
def test_name_with_a_typo_is_refused(tmp_path: Path, workers: list[str], named: str) -> None:
    code, said = pytest_run(tmp_path, *workers, "test_it.py::test_one", named)
    assert code == 4, said
    assert re.search(rf"not found: .*{re.escape(named)}", said), said
    assert "INTERNALERROR" not in said


def test_collected_test_without_a_report_fails_the_run(tmp_path: Path) -> None:
    dropped = "def pytest_runtest_protocol(item): return True if item.name == 'test_slow' else None"
    code, said = pytest_run(tmp_path, conftest=dropped)
    assert code == 1, said
    assert "collected and not run: test_it.py::test_slow" in said


def test_process_that_outlives_the_run_fails_it(tmp_path: Path) -> None:
    """A test starts a daemon, whose parent ends: nothing but its environment says where it comes from."""
    starts = (
        "import subprocess\n"
        "def test_one():\n"
        "    subprocess.run(['sh', '-c', 'sleep 600 >/dev/null 2>&1 & echo $! > pid'], check=True)\n"
    )
    impatient = "from tests.support import leftovers; leftovers._GOING_SECONDS = 0.2"
    try:
        code, said = pytest_run(tmp_path, test_file=starts, conftest=impatient)
    finally:
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 9)
    assert code == 1, said
    assert re.search(f"left behind: process {pid} sleep 600", said), said


def test_seconds_are_shown_by_module(tmp_path: Path) -> None:
    code, said = pytest_run(tmp_path)
    assert code == 0, said
    assert re.search(r"s  test_it.py\n", said), said
