"""`make soak`: hunt for what quiet runs do not find. The same seed decides the same, until the time is over."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import psutil

from tests.soak.injector import Group, Injector
from tests.soak.ledger import Broken, Stack, decide
from tests.support import PREFIX, ROOT
from tests.support.private_engine import PrivateEngine, private_engine
from tests.support.sandbox import APP_IMAGE, base_images, remove_orphaned_leftovers, remove_test_image, sandbox

KINDS = ("engine", "container", "command")
_PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal has ended the run."""


def main() -> int:
    """Run all of it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="decides all that is random")
    parser.add_argument("--minutes", type=float, default=10.0, help="time limit (default: 10)")
    parser.add_argument("tests", nargs="*", help="tests to repeat on the private engine, instead of the ledger")
    options = parser.parse_args()
    print(f"seed {options.seed}: to repeat, SOAK='--seed {options.seed} --minutes {options.minutes:g}'", flush=True)
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    began, timeline, broken = time.monotonic(), list[str](), False
    end = began + options.minutes * 60

    def say(event: str) -> None:
        timeline.append(f"{time.monotonic() - began:8.2f} s  {event}")
        print(timeline[-1], flush=True)

    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}soak-"))
    try:
        check_properties(options.seed, end - options.minutes * 30)
        if options.tests:
            repeat_tests(options.tests, options.seed, say, end)
        else:
            keep_ledger(folder, options.seed, say, end)
    except Interrupted as error:
        print(f"interrupted; seed {options.seed}", file=sys.stderr)
        return 128 + int(error.args[0])
    except Exception as error:  # noqa: BLE001
        broken = True
        print("\nthe time line's last lines:", *timeline[-40:], sep="\n", file=sys.stderr)
        what = str(error) if isinstance(error, Broken) else traceback.format_exc()
        print(f"\nseed {options.seed} broke something: {what}\nledger: {folder}", file=sys.stderr)
        return 1
    finally:
        if not broken:
            shutil.rmtree(folder)
    return 0


def check_properties(seed: int, deadline: float) -> None:
    """Run the random properties; what the deadline cuts off has not failed."""
    if files := sorted(str(file) for file in (ROOT / "tests").rglob("*_properties.py")):
        pytest = [sys.executable, *_PYTEST, f"--hypothesis-seed={seed}", *files]
        if not passed_in_time(pytest, {"SOAK": "1"}, deadline):
            print("time limit: the properties that are left were not checked", flush=True)


def repeat_tests(tests: Sequence[str], seed: int, say: Callable[[str], None], deadline: float) -> None:
    """Run tests against a private engine until the deadline, while processes stop at random."""
    with prepared_engine() as engine, Injector(seed, KINDS, groups_of(engine), say) as injector, ending():
        pytest, rounds = engine.inside(sys.executable, *_PYTEST, *tests), 0
        # A session of tests looks for the base images, and removes the app's at its end.
        engine.load([APP_IMAGE, *base_images().values()])
        while passed_in_time(pytest, engine.environment, deadline):
            engine.load([APP_IMAGE])
            rounds += 1
        print(f"passed {rounds} times; {dict(injector.counts)} stops")


def passed_in_time(command: Sequence[str], environment: Mapping[str, str], deadline: float) -> bool:
    """Whether tests end before the deadline, where they are killed; if they fail, something is broken."""
    left = max(0.0, deadline - time.monotonic())
    try:
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, timeout=left, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode:
        raise Broken(f"pytest ended with {done.returncode}: see above")
    return True


def keep_ledger(folder: Path, seed: int, say: Callable[[str], None], deadline: float) -> None:
    """Play rounds with a ledger until the deadline, while processes stop at random."""
    with prepared_engine() as engine, sandbox(folder) as project:
        stack = Stack(engine, project, say, folder / "ledger")
        with Injector(seed, KINDS, groups_of(engine), say) as injector, stack.writer, ending():
            try:
                rounds = stack.play(decide(seed), injector, deadline)
            except Exception:
                with injector.quiet(), suppress(Broken):
                    print("what doctor finds:", stack.run("doctor").out, sep="\n", file=sys.stderr)
                raise
        print(f"{rounds} rounds; {dict(injector.counts)} stops; verbs by exit code: {dict(stack.outcomes)}")
        if stack.findings:
            raise Broken("\n".join(stack.findings))


@contextmanager
def prepared_engine() -> Iterator[PrivateEngine]:
    """Run a private engine that has the images of a stack."""
    remove_orphaned_leftovers()
    try:
        with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder)) as project:
            built = project.run("build", fresh=True)
            assert built.code == 0, built.err
        with private_engine() as engine:
            engine.load([APP_IMAGE, base_images()["POSTGRES_IMAGE"]])
            yield engine
    finally:
        remove_test_image()


def groups_of(engine: PrivateEngine) -> Callable[[], Mapping[str, Sequence[Group]]]:
    """Return what lists the processes that may be stopped: the engine's, and those that we start from now on."""
    ours = psutil.Process()
    spared = set(ours.children())

    def groups() -> Mapping[str, Sequence[Group]]:
        theirs = engine.processes()
        shims = [process for process in theirs if name_of(process).startswith("containerd-shim")]
        containers = [[child for child in family(shim)[1:] if name_of(child)[:4] != "runc"] for shim in shims]
        inside = {process for container in containers for process in container}
        return {
            "engine": [[process for process in theirs if process not in inside]],
            "container": containers,
            "command": [family(child) for child in ours.children() if child not in spared],
        }

    return groups


def name_of(process: psutil.Process) -> str:
    """Return a process's name, nothing if it has ended."""
    with suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return [process]


@contextmanager
def ending() -> Iterator[None]:
    """Let nothing interrupt what comes after the block: it cleans up."""
    try:
        yield
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, _: object) -> NoReturn:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main())
