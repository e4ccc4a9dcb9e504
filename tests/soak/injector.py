"""Stop and continue processes at random, as a busy machine does. A seed decides when, for how long, and which.

A watchdog process continues whatever is stopped if the injector's own process is killed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psutil

#: Processes that belong together: a command and its children, or all of a container.
Group = Sequence[psutil.Process]

#: Seconds between two stops of one kind; their mean is well below ten.
_PAUSE_SECONDS: Final = (0.5, 9.0)
_SHORTEST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 20.0
#: The share of stops that hit all of a group at once, like a machine that stands still.
_WHOLE_GROUP_SHARE: Final = 0.4
_TICK_SECONDS: Final = 0.02
#: Reads `+PID` and `-PID`, and at the end of its input continues every process that is still stopped.
_WATCHDOG: Final = """
import contextlib, os, signal, sys
stopped = set()
for line in sys.stdin:
    (stopped.add if line[0] == "+" else stopped.discard)(int(line[1:]))
for pid in stopped:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
"""


@dataclass(frozen=True, slots=True)
class Stop:
    """One decision; `group` and `member` are places from 0 to 1 in the lists of the moment."""

    after: float
    seconds: float
    group: float
    member: float
    whole: bool

    def choose(self, groups: Sequence[Group]) -> Group:
        """Return the processes to stop, none if there are none."""
        if not groups:
            return []
        group = groups[int(self.group * len(groups))]
        return group if self.whole else [group[int(self.member * len(group))]]


def plan(seed: int, kind: str) -> Iterator[Stop]:
    """Decide all stops of a kind; three of four are shorter than a second."""
    chance = random.Random(f"{seed}/{kind}")
    while True:
        yield Stop(
            after=chance.uniform(*_PAUSE_SECONDS),
            seconds=_SHORTEST_SECONDS * (_LONGEST_SECONDS / _SHORTEST_SECONDS) ** (chance.random() ** 3),
            group=chance.random(),
            member=chance.random(),
            whole=chance.random() < _WHOLE_GROUP_SHARE,
        )


class Injector:
    """Stops processes of each kind until the end of its block, and continues all of them there.

    `groups` returns what may be stopped at the moment, by kind: nothing else ever is. `say` is given each line of the
    time line. Its own tests run it at a higher `speed`.
    """

    def __init__(
        self,
        seed: int,
        kinds: Sequence[str],
        groups: Callable[[], Mapping[str, Sequence[Group]]],
        say: Callable[[str], object],
        speed: float = 1.0,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._groups, self._say, self._speed = groups, say, speed
        self._plans = {kind: plan(seed, kind) for kind in kinds}
        self._next = {kind: next(stops) for kind, stops in self._plans.items()}
        self._due = {kind: time.monotonic() + stop.after / speed for kind, stop in self._next.items()}
        self._stopped: dict[psutil.Process, float] = {}
        self._lock = threading.Lock()
        self._quiet = False
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="injector")

    def __enter__(self) -> Injector:
        # In a session of its own: it outlives Ctrl-C.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-c", _WATCHDOG], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self._task = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._pool.shutdown()
        self._watchdog.communicate()
        self._task.result()  # raises what ended it early

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Continue all, and stop nothing for the length of a block."""
        with self._lock:
            self._quiet = True
            self._continue(list(self._stopped))
        try:
            yield
        finally:
            self._quiet = False

    def _run(self) -> None:
        try:
            while not self._ended.wait(_TICK_SECONDS):
                with self._lock:
                    self._tick(time.monotonic())
        finally:
            with self._lock:
                self._continue(list(self._stopped))

    def _tick(self, now: float) -> None:
        self._continue([process for process, until in self._stopped.items() if until <= now])
        kinds = [kind for kind, due in self._due.items() if due <= now]
        if self._quiet or not kinds:
            return
        groups = self._groups()
        for kind in kinds:
            running = [[process for process in group if self._may_stop(process)] for group in groups[kind]]
            stop = self._next[kind]
            if chosen := stop.choose([group for group in running if group]):
                self._stop(kind, chosen, stop.seconds, now)
                self._next[kind] = next(self._plans[kind])
                self._due[kind] = now + self._next[kind].after / self._speed

    def _may_stop(self, process: psutil.Process) -> bool:
        """Whether it is not one of the injector's own, has not ended, and is not stopped already."""
        with suppress(psutil.NoSuchProcess):
            stands = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD, psutil.STATUS_STOPPED)
            return not stands and process.pid not in (os.getpid(), self._watchdog.pid)
        return False

    def _stop(self, kind: str, chosen: Group, seconds: float, now: float) -> None:
        names = []
        for process in chosen:
            with suppress(psutil.NoSuchProcess):
                names.append(f"{process.pid} {process.name()}")
                self._stopped[process] = now + seconds / self._speed
                self._tell_watchdog("+", process)
                process.suspend()
        self.counts[kind] += 1
        self._say(f"{kind:<9}  {seconds:5.2f} s  {', '.join(names)}")

    def _continue(self, processes: Sequence[psutil.Process]) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()
            self._tell_watchdog("-", process)
            del self._stopped[process]

    def _tell_watchdog(self, sign: str, process: psutil.Process) -> None:
        assert self._watchdog.stdin
        self._watchdog.stdin.write(f"{sign}{process.pid}\n")
        self._watchdog.stdin.flush()
