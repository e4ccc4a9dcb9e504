"""Ctrl-C and SIGTERM: at any moment they end the command soon, with its code and one line, and no trace."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.calling import TIME_LIMIT, Project
from tests.support import ROOT
from tests.support.waiting import PATIENCE, eventually

SIGNALS = pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=["INT", "TERM"],
)
#: Interrupts itself when a module is imported.
INTERRUPTED_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

module = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
from stockhelper_cli.__main__ import main
main()
"""


@pytest.fixture
def hanging(tmp_path: Path) -> Callable[[str], Mapping[str, str]]:
    """Return the environment in which an engine's call hangs; that it does can be read from the file HANGS."""
    return lambda call: {"HANG": call, "HANGS": str(tmp_path / "hangs")}


def hanging_call(process: subprocess.Popen[Any], environment: Mapping[str, str]) -> str:
    """Return the call of the engine that hangs, once it does."""
    file = Path(environment["HANGS"])

    def told() -> str:
        assert process.poll() is None, "it ended before any call hung"
        line = file.read_text() if file.exists() else ""
        return line.strip() if line.endswith("\n") else ""

    return eventually(told)


@SIGNALS
@pytest.mark.parametrize("call", ["build", "pull"])
def test_a_build_or_pull_that_says_nothing_is_given_up(
    project: Project,
    hanging: Callable[[str], Mapping[str, str]],
    number: signal.Signals,
    code: int,
    word: str,
    call: str,
) -> None:
    if call == "pull":
        (project.root / ".env").write_text((project.root / ".env").read_text() + "POSTGRES_IMAGE=postgres:nowhere\n")
    environment = hanging(call)
    process = project.start("up", environment=environment)
    image = hanging_call(process, environment).split()[1]
    process.send_signal(number)
    out, err = process.communicate(timeout=TIME_LIMIT)  # the call itself would never end
    assert (process.returncode, out) == (code, "")
    assert f"error: {word}; what was started goes on running\n  | not done: {call} image {image}\n" in err
    assert "Traceback" not in err


def test_second_signal_ends_at_once_and_shows_the_cursor(
    project: Project, hanging: Callable[[str], Mapping[str, str]]
) -> None:
    """A second Ctrl-C ends `up` without waiting and shows the cursor again."""
    environment = hanging("start")  # which is short on a real engine, and is waited for
    with project.on_terminal("up", environment=environment) as screen:
        assert hanging_call(screen.process, environment).startswith("start ")
        screen.wait_for("\x1b[?25l")
        screen.type(b"\x03")
        screen.wait_for("^C")
        while screen.process.poll() is None:  # the first may still be on its way when the second is typed
            screen.type(b"\x03")
            screen.hear(0.05)
        assert screen.code() == 130
    assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")


@SIGNALS
def test_signal_during_an_engine_query_is_no_engine_error(
    project: Project, socket_folder: Path, number: signal.Signals, code: int, word: str
) -> None:
    """A signal during a request to the engine is reported as an interruption, not as an engine error."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(socket_folder / "engine.sock"))
        engine.settimeout(PATIENCE)
        engine.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "stockhelper_cli", "stop"],
            cwd=project.root,
            env=project.environment({"DOCKER_HOST": f"unix://{socket_folder}/engine.sock"}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with engine.accept()[0] as ping:
            assert ping.recv(65536).startswith(b"GET /_ping ")
            ping.sendall(b"HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24 (linux)\r\n\r\nOK")
        with engine.accept()[0] as question:
            assert question.recv(65536).startswith(b"GET /v1.41/info ")
            process.send_signal(number)
            out, err = process.communicate(timeout=TIME_LIMIT)
    assert (process.returncode, out) == (code, "")
    assert err.startswith(f"error: {word}; ")


@pytest.mark.parametrize(("module", "code"), [("typer", -signal.SIGINT), ("stockhelper_cli.compose", 130)])
def test_ctrl_c_during_an_import_leaves_no_trace(project: Project, module: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, module, "status"],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == (1 if code > 0 else 0)


def test_the_end_of_input_at_a_question_is_no_answer(project: Project) -> None:
    with project.on_terminal("down", "--volumes", "--no-backup") as screen:
        screen.wait_for("Type stockhelper to go on: ")
        screen.type(b"\x04")
        assert screen.code() == 9
    assert "\nerror: not confirmed; nothing was done\n" in screen.text
    assert project.calls == []


def test_ctrl_c_at_a_question_interrupts(project: Project) -> None:
    with project.on_terminal("down", "--volumes", "--no-backup") as screen:
        screen.wait_for("Type stockhelper to go on: ")
        screen.wait_until_read()  # between its prompt and its read Python would heed the signal after the read only
        screen.type(b"\x03")
        assert screen.code() == 130
    assert "error: interrupted" in screen.text
    assert project.calls == []


def test_signal_during_a_write_does_not_repeat_the_output() -> None:
    """Output that was written when a signal arrived is not written again."""
    script = """
import os, signal, sys
from stockhelper_cli import main, streams

class Written(streams._Result):
    def write(self, data):
        done = super().write(data)
        if not self.forgotten:
            os.kill(os.getpid(), signal.SIGINT)
        return done

streams._Result = Written
streams.settle()
main._heed_signals()
try:
    print("once", flush=True)
except BaseException as interruption:
    print(type(interruption).__name__, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("once\n", "Interruption\n", 0)
