"""The command as a process of its own: with streams of a test's choice, or on a terminal that a test looks at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support import ROOT
from tests.support.waiting import eventually

#: Seconds that a process may take, and until something on a terminal must be there.
TIME_LIMIT = 60


@dataclass(frozen=True)
class Project:
    """A project in a folder, and the command on it, with an engine in memory."""

    root: Path
    calls_file: Path

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.cli.process"]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        # How wide a screen is, its terminal says.
        outer = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        return {**outer, "PYTHONPATH": str(ROOT), "CALLS": str(self.calls_file), **(extra or {})}

    @property
    def calls(self) -> list[str]:
        """What the last run has changed at the engine, in order."""
        return self.calls_file.read_text().splitlines()

    def run(
        self,
        *arguments: str,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        closed: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run the command with these streams; `closed` are numbers of those that it does not have at all."""
        shut = "".join(f" {number}>&-" for number in closed)
        return subprocess.run(
            ["sh", "-c", f'exec "$@"{shut}', "sh", *self.command, *arguments],
            cwd=cwd or self.root,
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            encoding="utf-8",
            timeout=TIME_LIMIT,
            check=False,
        )

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start the command, its output in pipes."""
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.root,
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    @contextmanager
    def on_terminal(
        self, *arguments: str, columns: int = 80, environment: Mapping[str, str] | None = None
    ) -> Iterator[Screen]:
        """Start the command on a terminal of its own, which ends with the block."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        # Else a key that sends a signal takes with it what was written and not yet read.
        attributes = termios.tcgetattr(theirs)
        attributes[3] |= termios.NOFLSH
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        process = subprocess.Popen(
            ["setsid", "--ctty", *self.command, *arguments],
            cwd=self.root,
            env=self.environment({"CI": "", "TERM": "xterm", **(environment or {})}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        try:
            yield Screen(process, ours)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


@dataclass
class Screen:
    """A terminal on which a process runs."""

    process: subprocess.Popen[bytes]
    descriptor: int
    heard: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """What was written to it until now, without colours."""
        # The last character may not have come whole yet.
        return re.sub(r"\x1b\[[0-9;]*m", "", self.heard.decode(errors="replace").replace("\r\n", "\n"))

    def type(self, keys: bytes) -> None:
        with suppress(OSError):  # the process has just ended, which its exit code tells
            os.write(self.descriptor, keys)

    def wait_until_read(self) -> None:
        """Return when the process sleeps, as it does while it reads what is typed."""
        eventually(lambda: psutil.Process(self.process.pid).status() == psutil.STATUS_SLEEPING)

    def wait_for(self, text: str) -> None:
        """Return when a text stands on it."""
        while text not in self.text:
            assert self.hear(), f"no {text!r} in {self.text!r}, which is all"

    def code(self) -> int:
        """Return the process's exit code, once it has ended."""
        while self.hear():
            pass
        return self.process.wait(TIME_LIMIT)

    def hear(self, seconds: float = TIME_LIMIT) -> bool:
        """Take in what comes within a time; return whether something did."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:  # Linux' way to say that the other end is closed
            return False
        self.heard += data
        return bool(data)
