"""What only asks: past the SDK, with the errors that the SDK's calls have."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from stockhelper_cli.engine import docker_engine
from stockhelper_cli.engine.docker_engine import CALL_SECONDS, connect
from stockhelper_cli.engine.endpoints import Endpoint
from stockhelper_cli.errors import EngineError
from tests.support import ROOT
from tests.support.sockets import Serve, say_nothing, unix_engine

VOLUME = {"Name": "data", "Labels": None}


def says(body: object, status: str = "200 OK", headers: str = "") -> Serve:
    """Answer every question like this."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(f"HTTP/1.0 {status}\r\n{headers}\r\n{json.dumps(body)}".encode())

    return serve


@pytest.fixture
def socket_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sh-") as folder:
        yield Path(folder) / "engine.sock"


def ask(path: Path, serve: Serve, call_seconds: int = CALL_SECONDS) -> str:
    """Ask an engine that answers like this for a volume, and return the volume's name."""
    with unix_engine(path, serve) as endpoint:
        engine = connect(replace(endpoint, api_version=(1, 41)), call_seconds)
        try:
            return engine.volume("data").name
        finally:
            engine.close()


def test_an_answer_is_read(socket_path: Path) -> None:
    assert ask(socket_path, says(VOLUME)) == "data"


@pytest.mark.parametrize(
    ("serve", "code", "cause"),
    [
        (says({"message": "no\n such"}, "404 Not Found"), "engine.not_found", "no such"),
        (says({"message": "in use"}, "409 Conflict"), "engine.conflict", "in use"),
        (says({"message": "no"}, "500 Oh"), "engine.refused", "no"),
        (says("<html>", "502 Bad Gateway"), "engine.refused", '"<html>"'),
        (says({}, "200 OK", "Content-Length: 4000\r\n"), "engine.lost", "it hung up in the middle of its answer"),
        (lambda connection: None, "engine.lost", ""),
    ],
)
def test_what_goes_wrong_is_told_as_for_every_call(socket_path: Path, serve: Serve, code: str, cause: str) -> None:
    with pytest.raises(EngineError) as raised:
        ask(socket_path, serve)
    assert raised.value.code == code
    assert raised.value.message.startswith("could not inspect the volume data")
    assert cause in raised.value.cause


def test_truncated_answer_without_length_is_a_lost_engine(socket_path: Path) -> None:
    """An answer without a length that is cut off means that the connection to the engine is lost."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"Name": "da')

    with pytest.raises(EngineError) as raised:
        ask(socket_path, serve)
    assert raised.value.code == "engine.lost"


def test_an_engine_that_says_nothing_is_given_up(socket_path: Path) -> None:
    with pytest.raises(EngineError) as raised:
        ask(socket_path, say_nothing, call_seconds=1)
    assert raised.value.code == "engine.timeout"


def test_an_engine_that_is_gone_is_lost(socket_path: Path) -> None:
    engine = connect(Endpoint(f"unix://{socket_path}", "test", api_version=(1, 41)))
    with pytest.raises(EngineError) as raised:
        engine.volume("data")
    assert raised.value.code == "engine.lost"
    engine.close()


def test_an_exit_code_that_the_engine_learns_late_is_waited_for() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now.append(now[-1] + seconds)

    client: Any = SimpleNamespace(exec_inspect=lambda _: {"ExitCode": 7 if now[-1] > 10 else None})
    streams: Any = None
    clock = SimpleNamespace(monotonic=lambda: now[-1], sleep=sleep)
    with patch.object(docker_engine, "time", clock):
        assert docker_engine._ExecSession(client, "its id", streams).exit_code() == 7


def test_exit_code_of_an_abandoned_command_is_not_awaited() -> None:
    """After a session is closed, its exit code is not waited for."""
    client: Any = SimpleNamespace(exec_inspect=lambda _: {"ExitCode": None})
    streams: Any = SimpleNamespace(close=lambda: None)
    session = docker_engine._ExecSession(client, "its id", streams)
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _: session.close())  # by another thread
    with patch.object(docker_engine, "time", clock):
        assert session.exit_code() == -1


def test_asking_needs_no_sdk(socket_path: Path) -> None:
    script = (
        "import sys; from stockhelper_cli.engine.docker_engine import connect;"
        "from stockhelper_cli.engine.endpoints import Endpoint;"
        "engine = connect(Endpoint('unix://' + sys.argv[1], 'test', api_version=(1, 41)));"
        "assert engine.volume('data').name == 'data'; engine.close();"
        "assert not {'docker', 'requests', 'urllib3'} & set(sys.modules)"
    )
    with unix_engine(socket_path, says(VOLUME)):
        command = [sys.executable, "-c", script, str(socket_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_concurrent_first_use_of_the_sdk_imports_all_of_it(socket_path: Path) -> None:
    """Threads that use the SDK for the first time at once all get it completely imported."""
    # In a process of its own, in which nobody has imported it yet.
    script = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from stockhelper_cli.engine.docker_engine import connect
from stockhelper_cli.engine.endpoints import Endpoint
from stockhelper_cli.engine.protocol import BuildOptions
from stockhelper_cli.errors import NotFound

engine = connect(Endpoint("unix://" + sys.argv[1], "test", api_version=(1, 41)))
begin = Barrier(8)

def ask(number):
    begin.wait()
    if number % 2:
        engine.context_files(BuildOptions(Path.cwd() / "docker", "app/Dockerfile", "x"))
        return
    try:
        engine.start("none")
    except NotFound:
        pass

with ThreadPoolExecutor(8) as pool:
    list(pool.map(ask, range(8)))
"""
    with unix_engine(socket_path, says({"message": "none"}, "404 Not Found")):
        command = [sys.executable, "-c", script, str(socket_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
