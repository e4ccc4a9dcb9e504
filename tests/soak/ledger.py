"""A stack with a long ledger: a writer inserts numbered rows while random verbs run, and no row may get lost."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import docker

from stockhelper_cli.errors import ExitCode
from stockhelper_cli.labels import PROJECT
from tests.soak.injector import Injector
from tests.support.private_engine import PrivateEngine
from tests.support.sandbox import TIME_LIMIT, Result, Sandbox
from tests.support.waiting import eventually

SERVICES: Final = ("app", "db", "migrate")
_VERBS: Final = ("up", "restart", "stop", "backup", "restore", "migrate", "docker kill")
_VERBS_PER_ROUND: Final = 3
#: The share of verbs that are killed (kill -9), after at most so many seconds.
_KILL_SHARE: Final = 0.25
_KILL_SECONDS: Final = 6.0
_SETTINGS: Final = ("LOG_LEVEL=DEBUG", "LOG_LEVEL=INFO", "WEB_CONCURRENCY=2", "DB_MEMORY=900m", "DB_MEMORY=1g")
_RESTARTS: Final = ((), ("app",), ("db",))
_MIGRATIONS: Final = ((), ("downgrade", "0001", "--yes"), ("current",))


T = TypeVar("T")


class Broken(Exception):
    """Something that must always hold does not."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next; `pick` is a place from 0 to 1 among what there is to choose from."""

    verb: str
    pick: float
    kill_after: float | None

    def choose(self, choices: Sequence[T]) -> T:
        """Return one of them."""
        return choices[int(self.pick * len(choices))]


def decide(seed: int) -> Iterator[Decision]:
    """Decide all that is done to the stack: every verb in turn, in an order that is always another."""
    chance = random.Random(f"{seed}/verbs")
    while True:
        for verb in chance.sample(_VERBS, len(_VERBS)):
            kill_after = chance.uniform(0, _KILL_SECONDS)
            yield Decision(verb, chance.random(), kill_after if chance.random() < _KILL_SHARE else None)


@dataclass
class State:
    """What a database holds: every acknowledged row, and perhaps others that were attempted."""

    acknowledged: set[int] = field(default_factory=set)
    attempted: set[int] = field(default_factory=set)

    def difference(self, rows: Sequence[int]) -> str:
        """Return how these rows differ from what must be there, nothing if they do not."""
        wrong = {
            "lost": self.acknowledged.difference(rows),
            "twice": {row for row, count in Counter(rows).items() if count > 1},
            "never written here": set(rows) - self.attempted,
        }
        return ", ".join(f"{what}: {sorted(numbers)[:20]}" for what, numbers in wrong.items() if numbers)


class Writer:
    """Inserts numbered rows, each once, and notes each one that the database has acknowledged."""

    def __init__(self, open_psql: Callable[[], subprocess.Popen[str]], file: Path) -> None:
        self.state = State()
        self._open_psql = open_psql
        self._psql: subprocess.Popen[str] | None = None
        self._file = file.open("w")
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")

    def __enter__(self) -> Writer:
        self._task = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._psql is not None:
            self._psql.kill()
        self._pool.shutdown()
        self._file.close()
        self._task.result()  # raises what ended it early

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Write nothing for the length of a block; a row that is being written is finished first."""
        if not self._turn.acquire(timeout=TIME_LIMIT):
            raise Broken(f"an insert has had no answer for {TIME_LIMIT} s")
        try:
            yield
        finally:
            self._turn.release()

    def note(self, line: str) -> None:
        """Note a line where it survives a crash."""
        self._file.write(f"{line}\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _run(self) -> None:
        numbers = itertools.count(1)
        while not self._ended.wait(0.5):
            with suppress(BrokenPipeError), self._open_psql() as psql:
                self._psql = psql
                while self._insert(next(numbers), psql) and not self._ended.wait(0.02):
                    pass
                psql.kill()

    def _insert(self, number: int, psql: subprocess.Popen[str]) -> bool:
        assert psql.stdin
        assert psql.stdout
        with self._turn, suppress(BrokenPipeError):
            self.state.attempted.add(number)
            psql.stdin.write(f"INSERT INTO ledger VALUES ({number}) RETURNING n;\n")
            psql.stdin.flush()
            if psql.stdout.readline() == f"{number}\n":
                self.note(str(number))
                self.state.acknowledged.add(number)
                return True
        return False


class Stack:
    """The stack on its private engine, and what is done to it."""

    def __init__(self, engine: PrivateEngine, project: Sandbox, say: Callable[[str], None], ledger: Path) -> None:
        self.engine, self.project, self._say = engine, project, say
        self.outcomes: Counter[str] = Counter()
        #: What is wrong, but does not keep the run from going on.
        self.findings: list[str] = []
        self._backups: list[tuple[Path, State]] = []
        self._succeed("up", "--no-build")
        self._succeed("psql", "-c", "CREATE TABLE ledger (n int)")
        self.writer = Writer(
            lambda: self._open("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", stderr=subprocess.DEVNULL), ledger
        )

    def _open(self, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.engine.inside(*self.project.command(*arguments)),
            cwd=self.project.root,
            env=self.project.environment(self.engine.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def run(self, *arguments: str, kill_after: float | None = None) -> Result:
        """Run `stockhelper` to its end, or kill it; it may fail, but only as documented."""
        began = time.monotonic()
        process = self._open(*arguments)
        try:
            out, err = process.communicate(timeout=TIME_LIMIT if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            if kill_after is None:
                raise Broken(f"{arguments} did not end within {TIME_LIMIT} s:\n{err}") from None
        except BaseException:
            process.kill()
            process.communicate()
            raise
        code = process.returncode
        self._say(f"{'verb':<9}  {time.monotonic() - began:5.2f} s  {' '.join(arguments)}: {code}")
        if "error:" in err:
            self._say(err[err.index("error:") :].strip())
        allowed = [*ExitCode, -signal.SIGKILL] if kill_after is not None else [*ExitCode]
        if code not in allowed or "Traceback" in err or "bug in stockhelper" in err:
            raise Broken(f"{arguments} ended with {code}:\n{err}")
        self.outcomes[f"{arguments[0]} {code}"] += 1
        return Result(code, out, err)

    def play(self, decisions: Iterator[Decision], injector: Injector, deadline: float) -> int:
        """Play rounds until the deadline; return how many."""
        rounds = 0
        while time.monotonic() < deadline:
            for _ in range(_VERBS_PER_ROUND):
                self.do(next(decisions), injector)
            with self.writer.paused(), injector.quiet():
                self._check(self.writer.state)
                held = len(self.writer.state.acknowledged)
            with injector.quiet():
                eventually(lambda held=held: len(self.writer.state.acknowledged) > held)  # type: ignore[misc]
            rounds += 1
            self._say(f"round      {rounds}: all {held} rows are there")
        return rounds

    def do(self, decision: Decision, injector: Injector) -> None:
        """Do one thing to the stack."""
        kill_after = decision.kill_after
        match decision.verb:
            case "up":
                self.project.set(*decision.choose(_SETTINGS).split("="))
                self.run("up", "--no-build", kill_after=kill_after)
            case "restart":
                self.run("restart", *decision.choose(_RESTARTS), kill_after=kill_after)
            case "stop":
                self.run("stop", kill_after=kill_after)
                self.run("start")
            case "backup":
                self._back_up(kill_after)
            case "restore" if self._backups:
                self._restore(*decision.choose(self._backups), kill_after, injector)
            case "migrate":
                self.run("migrate", *decision.choose(_MIGRATIONS), kill_after=kill_after)
            case "docker kill":
                name = f"{self.project.name}-{decision.choose(SERVICES[:2])}-1"
                subprocess.run(["docker", "-H", self.engine.url, "kill", name], capture_output=True, check=False)
                self._say(f"{'verb':<9}          docker kill {name}")

    def _back_up(self, kill_after: float | None) -> None:
        acknowledged = set(self.writer.state.acknowledged)
        made = self.run("backup", "create", "--verify", "--json", kill_after=kill_after)
        if made.code == 0:
            file = Path(json.loads(made.out)["result"]["file"])
            self._backups.append((file, State(acknowledged, set(self.writer.state.attempted))))

    def _restore(self, file: Path, held: State, kill_after: float | None, injector: Injector) -> None:
        with self.writer.paused():
            done = self.run("restore", str(file), "--yes", kill_after=kill_after)
            then = State(set(held.acknowledged), set(held.attempted))
            if done.code == 0:
                self.writer.state = then
            else:  # it holds what it held before, or what the backup held: look which
                with injector.quiet():
                    self.writer.state = self._check(self.writer.state, then)
            self.writer.note(f"holds {file.name}" if self.writer.state is then else "holds what it held")

    def _check(self, *states: State) -> State:
        """Bring the stack up and check it; return the state that it is in. Nothing else may happen meanwhile."""
        self._succeed("up", "--no-build")
        self._succeed("status")
        rows = [int(row) for row in self._succeed("psql", "-XAtc", "SELECT n FROM ledger").out.split()]
        differences = {state.difference(rows): state for state in reversed(states)}
        if "" not in differences:
            raise Broken("the ledger is wrong: " + "; or ".join(differences))
        self._remove_leftovers()
        differences[""].acknowledged.update(rows)
        return differences[""]

    def _remove_leftovers(self) -> None:
        """Remove the containers that no service has, so that the run can go on, and remember them."""
        engine = docker.DockerClient(base_url=self.engine.url)
        try:
            for container in engine.containers.list(all=True, filters={"label": PROJECT}):
                if container.name not in [f"{self.project.name}-{service}-1" for service in SERVICES]:
                    self.findings.append(f"{container.name} was left ({container.status}): {container.attrs['Args']}")
                    self._say(f"finding    {self.findings[-1]}")
                    container.remove(force=True)
        finally:
            engine.close()

    def _succeed(self, *arguments: str) -> Result:
        result = self.run(*arguments)
        if result.code:
            raise Broken(f"{arguments} failed with {result.code} while nothing was stopped:\n{result.err}{result.out}")
        return result
