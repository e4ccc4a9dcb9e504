"""The command as a process of its own, with the engine in memory: `python -m tests.cli.process ARGUMENT…`.

At its end it writes the engine's changing calls into the file CALLS, one a line. With HANG=CALL the engine's first such
call says so in the file HANGS and never returns.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from stockhelper_cli.__main__ import main
from tests.cli.engine import every_file, in_use, made_engine

if __name__ == "__main__":
    engine = made_engine()
    calls = Path(os.environ["CALLS"])

    def hang(call: str, name: str) -> None:
        if call == os.environ.get("HANG"):
            Path(os.environ["HANGS"]).write_text(f"{call} {name}\n")
            threading.Event().wait()

    def tell() -> None:
        calls.write_text("".join(" ".join(call) + "\n" for call in engine.calls))

    def leave(code: int, at_once: Callable[[int], NoReturn] = os._exit) -> NoReturn:
        tell()
        at_once(code)

    engine.intercept = hang
    engine.context_files = every_file  # type: ignore[method-assign]
    os._exit = leave  # type: ignore[assignment]
    try:
        with in_use(engine, calls.parent):
            main()
    finally:
        tell()
