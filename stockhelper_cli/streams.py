"""stdin, stdout and stderr as the command finds them: open, closed, on a full disk, or with nobody at the other end."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2
#: What was let go of while it may have been writing: Python must not take it down then.
_forgotten: Final[list[TextIO]] = []


class ResultLost(Exception):
    """The result could not be written; not an `OSError`, since some libraries end the process for one."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        #: Whether it was a pipe, and whoever read it has seen enough.
        self.unread = error.errno == errno.EPIPE


def settle() -> None:
    """Make all three streams usable, whatever became of them before.

    What was closed leads nowhere. A character that a stream cannot show becomes another. A write to stdout that fails
    raises `ResultLost`. What cannot be written to stderr is lost: it is said by the way, and no work is given up for
    it.
    """
    # Each call takes the lowest number that is free: so no later file becomes one of the three.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    if sys.stdin is None:  # as is each that was closed
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115 - for as long as we live
    sys.stdout = _text(_Result(_STDOUT, "w", closefd=False), sys.stdout, line_buffering=os.isatty(_STDOUT))
    sys.stderr = _text(_ByTheWay(_STDERR, "w", closefd=False), sys.stderr, line_buffering=True)


def forget_result() -> None:
    """Let go of what stdout still holds back: an interruption leaves open how much of it has been written already.

    Called by a signal handler, maybe in the middle of a write: what Python took for unwritten came twice.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Result):
        raw.forgotten = True
        _forgotten.append(sys.stdout)
        sys.stdout = _text(_Result(_STDOUT, "w", closefd=False), sys.stdout, line_buffering=os.isatty(_STDOUT))


def abandon_result() -> None:
    """Let what stdout still holds back lead nowhere: Python would try once more to write it, and complain."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, _STDOUT)
    os.close(descriptor)


def _text(file: io.FileIO, before: TextIO | None, *, line_buffering: bool) -> TextIO:
    encoding = before.encoding if before is not None else None
    return io.TextIOWrapper(io.BufferedWriter(file), encoding=encoding, errors="replace", line_buffering=line_buffering)


class _Result(io.FileIO):
    forgotten = False

    def write(self, data: ReadableBuffer, /) -> int:
        if self.forgotten:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            raise ResultLost(error) from error


class _ByTheWay(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes
