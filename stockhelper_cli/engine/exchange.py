"""Talking with a command in a container: its input and its output at the same time, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

from stockhelper_cli.errors import EngineError

if TYPE_CHECKING:
    from stockhelper_cli.engine.protocol import Session


def exchange(session: Session, pieces: Iterable[bytes], take: Callable[[int, bytes], object]) -> int:
    """Give a command its input, and its output (1 or 2, and the bytes) to `take`, which runs in a thread of its own.

    Returns the exit code once the command has ended. That it may end before its input does is no error here: its exit
    code says why.
    """

    def read() -> None:
        for stream, data in session.output():
            take(stream, data)

    with ThreadPoolExecutor(1, thread_name_prefix="exchange") as pool, closing(session):
        reader = pool.submit(read)
        try:
            for piece in pieces:
                session.write(piece)
        except EngineError:
            pass  # it reads no more
        session.end_input()
        reader.result()
        return session.exit_code()
