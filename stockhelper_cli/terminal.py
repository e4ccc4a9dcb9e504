"""This terminal, joined to a command in a container: raw keys, its size, and its end."""

from __future__ import annotations

import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Final

from stockhelper_cli.errors import EngineError

if TYPE_CHECKING:
    from stockhelper_cli.engine.protocol import Session

_STDIN: Final = 0
_STDERR_STREAM: Final = 2
_CHUNK: Final = 1 << 16


def is_terminal() -> bool:
    """Return whether both ends of the conversation, stdin and stdout, are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def attach(session: Session, *, terminal: bool) -> int:
    """Join stdin, stdout and stderr to a command in a container until it ends; return its exit code.

    With `terminal`, keys go to the command as they are typed, Ctrl-C among them, and it learns of this terminal's size
    and its changes. Without, stdin is passed on until it ends.
    """
    # A daemon: nobody can end a read of stdin, and the command may have ended before its input has.
    Thread(target=_feed, args=(session,), name="stdin", daemon=True).start()
    with _raw() if terminal else _as_it_is(), _sized(session) if terminal else _as_it_is():
        for stream, data in session.output():
            target = sys.stderr if stream == _STDERR_STREAM else sys.stdout
            target.buffer.write(data)
            target.buffer.flush()
    return session.exit_code()


def _feed(session: Session) -> None:
    with suppress(EngineError):  # the command has ended: nobody is there to read
        while data := os.read(_STDIN, _CHUNK):
            session.write(data)
    session.end_input()


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _raw() -> Iterator[None]:
    """Pass every key on as it is typed, and give the terminal back as it was."""
    before = termios.tcgetattr(_STDIN)
    # Drained and not flushed: what was typed ahead is the command's.
    tty.setraw(_STDIN, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


@contextmanager
def _sized(session: Session) -> Iterator[None]:
    """Keep the size of the command's terminal that of this one."""

    def tell(number: int = 0, frame: FrameType | None = None) -> None:
        size = os.get_terminal_size(_STDIN)
        with suppress(EngineError):  # it has just ended
            session.resize(size.lines, size.columns)

    before = signal.signal(signal.SIGWINCH, tell)
    tell()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
