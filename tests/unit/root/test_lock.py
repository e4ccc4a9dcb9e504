"""One writer at a time, by a lock that the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockhelper_cli import lock
from stockhelper_cli.errors import ExitCode, StockhelperError
from stockhelper_cli.lock import exclusive, path_for
from tests.support import ROOT
from tests.support.waiting import PATIENCE

#: Holds the lock, says so on stdout, and goes on holding it until its stdin ends.
HOLDER = """
import sys
from pathlib import Path
from stockhelper_cli import lock
lock._SHARED_FOLDER = Path(sys.argv.pop())
sys.argv[1:] = ["up", "--dev"]
with lock.exclusive("engine-1", "shop"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "_SHARED_FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `shop` on `engine-1`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def refused(**options: float) -> StockhelperError:
    with pytest.raises(StockhelperError) as raised, exclusive("engine-1", "shop", **options):
        raise AssertionError("the lock was given twice")
    return raised.value


def test_a_second_writer_is_refused_and_told_who_holds_the_lock(holder: subprocess.Popen[str]) -> None:
    error = refused()
    assert (error.code, error.exit_code) == ("locked", ExitCode.LOCKED)
    assert error.message == "another run is at work on the project shop"
    assert re.fullmatch(
        rf"held by `stockhelper up --dev`, pid {holder.pid} on {re.escape(socket.gethostname())},"
        r" since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d",
        error.cause,
    )
    assert error.next == ("stockhelper status",)


def test_lock_is_free_after_its_holder_is_killed(holder: subprocess.Popen[str]) -> None:
    """After its holder is killed, the lock is free without any command."""
    refused()
    holder.send_signal(signal.SIGKILL)
    holder.wait(PATIENCE)
    with exclusive("engine-1", "shop"):
        pass


def test_a_holder_that_ends_leaves_no_name_behind(folder: Path) -> None:
    with exclusive("engine-1", "shop"):
        path = path_for("engine-1", "shop")
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.read_text() == ""


def test_an_exception_inside_frees_the_lock() -> None:
    with pytest.raises(ZeroDivisionError), exclusive("engine-1", "shop"):
        _ = 1 / 0
    with exclusive("engine-1", "shop"):
        pass


@pytest.mark.parametrize(("engine", "project"), [("engine-2", "shop"), ("engine-1", "other")])
def test_another_engine_or_project_is_not_locked(holder: subprocess.Popen[str], engine: str, project: str) -> None:
    with exclusive(engine, project):
        pass


def test_the_key_is_engine_and_project_not_the_two_run_together() -> None:
    assert path_for("engine-1", "shop") != path_for("engine-", "1shop")


def test_who_waits_gets_the_lock_as_soon_as_it_is_free(holder: subprocess.Popen[str]) -> None:
    entered = threading.Event()
    began = threading.Event()

    def wait_for_it() -> None:
        began.set()
        with exclusive("engine-1", "shop", wait_seconds=PATIENCE):
            entered.set()

    waiter = threading.Thread(target=wait_for_it)
    waiter.start()
    assert began.wait(PATIENCE)
    assert not entered.is_set()
    assert holder.stdin is not None
    holder.stdin.close()
    assert entered.wait(PATIENCE)
    waiter.join(PATIENCE)


def test_who_waits_is_refused_when_its_time_is_over(holder: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    assert refused(wait_seconds=0.2).code == "locked"
    assert time.monotonic() - began >= 0.2


def test_lock_file_is_open_to_all_users_with_any_umask() -> None:
    """Every user may open the lock file, independent of its creator and the umask."""
    before = os.umask(0o077)
    try:
        with exclusive("engine-1", "shop"):
            mode = path_for("engine-1", "shop").stat().st_mode & 0o777
    finally:
        os.umask(before)
    assert mode == 0o666


def test_lock_file_of_another_user_works_in_sticky_folder(folder: Path) -> None:
    """The kernel (fs.protected_regular) refuses O_CREAT there, which is why the file is opened without it first."""
    if os.getuid() == 0:
        folder.chmod(0o1777)
        path = path_for("engine-1", "shop")
        path.touch()
        os.chown(path, 65534, 65534)
        path.chmod(0o666)
    with exclusive("engine-1", "shop"):
        pass


def test_a_symbolic_link_in_the_shared_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "somebody's file"
    target.write_text("precious")
    path_for("engine-1", "shop").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"), exclusive("engine-1", "shop"):
        pass
    assert target.read_text() == "precious"


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]", "\0\0"])
def test_a_file_that_names_nobody_does_not_hide_that_it_is_held(holder: subprocess.Popen[str], content: str) -> None:
    path_for("engine-1", "shop").write_text(content)
    assert refused().cause == "held by a process that has only just begun"


def test_without_the_shared_folder_the_temporary_one_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_SHARED_FOLDER", tmp_path / "absent")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert path_for("engine-1", "shop").parent == tmp_path
