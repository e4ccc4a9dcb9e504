"""Commands of this machine: their output goes line by line to whoever shows progress, the last lines into errors."""

from __future__ import annotations

import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

#: The last lines of a command's output that an error carries.
TAIL_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended: its exit code (negative: the signal that killed it) and its last lines."""

    exit_code: int
    tail: tuple[str, ...]


def run(
    command: Sequence[str], on_line: Callable[[str], None], *, environ: Mapping[str, str] | None = None
) -> Finished:
    """Run a command to its end, each line of its output (both streams) given to `on_line`.

    A command that does not exist counts as exit code 127, as in a shell. The command is ended when `on_line` raises.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        process = subprocess.Popen(
            list(command),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError as error:
        return Finished(127, (str(error),))
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if text := line.rstrip():
                    tail.append(text)
                    on_line(text)
        except BaseException:
            process.terminate()
            raise
    return Finished(process.returncode, tuple(tail))


def run_service_command(command: Sequence[str], timeout: float) -> Finished:
    """Run a command that may leave a service behind, for at most `timeout` seconds; it is ended then (exit code 124).

    Its output goes through a file: a service keeps what it inherits, and the end of a pipe would never come.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            return Finished(127, (str(error),))
        with process:
            try:
                exit_code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                exit_code = 124
        output.seek(0)
        tail = deque((line.decode(errors="replace").rstrip() for line in output), maxlen=TAIL_LINES)
    return Finished(exit_code, tuple(line for line in tail if line))
