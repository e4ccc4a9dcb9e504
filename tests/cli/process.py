"""The command as a process of its own, with the engine in memory: `python -m tests.cli.process ARGUMENT…`.

At its end it writes the engine's changing calls into the file CALLS, one a line. With HANG=CALL the engine's first such
call says so in the file HANGS and never returns.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from stockhelper_cli import lock
from stockhelper_cli.__main__ import main
from stockhelper_cli.commands.context import Invocation
from stockhelper_cli.engine.protocol import Engine
from tests.cli.conftest import made_engine

if __name__ == "__main__":
    engine = made_engine()

    def hang(call: str, name: str) -> None:
        if call == os.environ.get("HANG"):
            Path(os.environ["HANGS"]).write_text(f"{call} {name}\n")
            threading.Event().wait()

    @contextmanager
    def connected(invocation: Invocation) -> Iterator[Engine]:
        yield engine

    engine.intercept = hang
    patch = pytest.MonkeyPatch()
    patch.setattr(Invocation, "engine", connected)
    patch.setattr(lock, "_SHARED_FOLDER", Path(os.environ["CALLS"]).parent)

    def tell() -> None:
        Path(os.environ["CALLS"]).write_text("".join(" ".join(call) + "\n" for call in engine.calls))

    def leave(code: int, at_once: Callable[[int], NoReturn] = os._exit) -> NoReturn:
        tell()
        at_once(code)

    patch.setattr(os, "_exit", leave)
    try:
        main()
    finally:
        tell()
