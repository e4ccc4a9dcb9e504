"""Where it is measured: projects of the benchmark's own on the real engine, and what can be done to them."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any, BinaryIO, Final

from stockhelper_cli import compose
from stockhelper_cli.compose.create import container_spec, network_spec, volume_spec
from stockhelper_cli.converge.state import project_filter
from tests.e2e.release import own_release
from tests.support.compose_cli import compose_command
from tests.support.ports import free_port
from tests.support.sandbox import TIME_LIMIT, Sandbox, base_images, client, remove_leftovers, sandbox

HERE: Final = Path(__file__).parent
HEALTH: Final = "/api/v1/health"
#: The command as it is installed beside this Python.
STOCKHELPER: Final = str(Path(sys.executable).with_name("stockhelper"))
_POLL_SECONDS: Final = 0.005
#: Asks the database over TCP, for half a second until it takes connections: cheaper than to ask anew from outside.
_ASK: Final = (
    'host=$(hostname); for i in 1 2 3 4 5 6 7 8 9 10; do pg_isready -q -h "$host" && break; sleep 0.04; done;'
    ' exec psql -h "$host" -w -X -q -c "SELECT 1"'
)
#: Services of the stacks by which growth is measured.
SIZES: Final = (2, 10, 40)
#: About 70 MB in a dump.
_ROWS: Final = 1_500_000
BAR_COLUMNS: Final = (
    "symbol", "trade_date", "open", "high", "low", "close", "volume", "turnover", "adjustment_factor"
)  # fmt: skip
#: A million bars.
_SHARES: Final = 5_000
_DAYS: Final = 200
_FIRST_DAY: Final = dt.date(2024, 1, 1)


# --- what is done, and how long it takes
def seconds(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    codes: Collection[int] = (0,),
    stdin: BinaryIO | int = subprocess.DEVNULL,
) -> float:
    """Run a command, which must exit with one of these codes, and return how long it took."""
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    taken = time.perf_counter() - began
    assert done.returncode in codes, f"{command}: {done.stdout}{done.stderr}"
    return taken


def stockhelper(project: Sandbox, *arguments: str, **environment: str) -> float:
    """Run `stockhelper` in a project and return how long it took."""
    return seconds([STOCKHELPER, *arguments], project.root, project.environment(environment))


def doctor(project: Sandbox) -> float:
    """Run `stockhelper doctor`; that a machine has no registry, say, is a finding, and no matter here."""
    return seconds([STOCKHELPER, "doctor"], project.root, project.environment({}), codes=(0, 1))


def docker_compose(project: Sandbox, *arguments: str, **environment: str) -> float:
    """Run the real `docker compose` in a project and return how long it took."""
    return seconds([*compose_command(), *arguments], project.root, project.environment(environment))


def python(project: Sandbox, *arguments: str) -> float:
    """Run this Python in a project and return how long it took."""
    return seconds([sys.executable, *arguments], project.root, project.environment({}))


def answers(port: int) -> bool:
    """Return whether the service says that it is healthy, by a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", HEALTH)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def until_healthy(port: int) -> float:
    """Wait until the service says that it is healthy, and return how long that took."""
    began = time.perf_counter()
    while not answers(port):
        assert time.perf_counter() < began + TIME_LIMIT, "the service does not get healthy"
        time.sleep(_POLL_SECONDS)
    return time.perf_counter() - began


class Gap:
    """Asks the service every few milliseconds while the block lasts; `seconds` is the longest time without answer."""

    def __init__(self, port: int) -> None:
        self.seconds = 0.0
        self._port = port
        self._ended = Flag()
        self._thread = Thread(target=self._ask)

    def __enter__(self) -> Gap:
        assert answers(self._port)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        last = time.perf_counter()
        while not self._ended.wait(_POLL_SECONDS):
            if answers(self._port):
                now = time.perf_counter()
                self.seconds, last = max(self.seconds, now - last), now


# --- stages
@dataclass(frozen=True, slots=True)
class Starts:
    """Our stack, what the floor needs to make the same one, and the seed's stack on the same images."""

    own: Sandbox
    floor: Path
    seed: Sandbox


@contextmanager
def starts(folder: Path) -> Iterator[Starts]:
    """Make both stacks, neither of them up; the image is there."""
    with sandbox(folder / "own") as own, sandbox(folder / "seed") as seed:
        own.up()
        (seed.root / "compose" / "compose.yaml").write_text((HERE / "seed.yaml").read_text())
        seed.set("DB_PORT", str(free_port()))
        yield Starts(own, floor_file(own, folder / "floor.json"), seed)


@contextmanager
def project(folder: Path) -> Iterator[Sandbox]:
    """Make our project, which is not brought up."""
    with sandbox(folder) as made:
        yield made


@contextmanager
def described(folder: Path) -> Iterator[Starts]:
    """Make our stack, bring it up and leave it so."""
    with sandbox(folder / "own") as own:
        own.up()
        settle(own)
        yield Starts(own, floor_file(own, folder / "floor.json"), own)


@contextmanager
def stack(folder: Path) -> Iterator[Sandbox]:
    """Make our stack and bring it up. The service has a variable more, BENCH, which is the shell's to decide."""
    with sandbox(folder) as project:
        variable = "services: {app: {environment: {BENCH: '${BENCH:-0}'}}}\n"
        (project.root / "compose" / "bench.yaml").write_text(variable)
        project.set("COMPOSE_FILE", "compose/compose.yaml:compose/bench.yaml")
        project.up()
        yield project


@contextmanager
def settled(folder: Path) -> Iterator[Sandbox]:
    """Make our stack, bring it up, and let the engine see for itself that it is healthy."""
    with stack(folder) as project:
        settle(project)
        yield project


@contextmanager
def filled(folder: Path) -> Iterator[Sandbox]:
    """Make our stack with something in its database."""
    with sandbox(folder) as project:
        project.up()
        project.psql(
            "CREATE TABLE ticks (id int, moment timestamptz, price float8, note text);"
            " INSERT INTO ticks SELECT g, now() + g * interval '1 s', random(), md5(g::text) || md5((g + 1)::text)"
            f" FROM generate_series(1, {_ROWS}) g; CHECKPOINT"
        )
        yield project


@contextmanager
def crowds(folder: Path) -> Iterator[Mapping[int, Sandbox]]:
    """Make a stack of each size, of services that print a hundred lines and then sleep, and bring them up."""
    with ExitStack() as ended:
        projects = {}
        for size in SIZES:
            projects[size] = ended.enter_context(sandbox(folder / str(size)))
            text = "services:\n" + "".join(map(_worker, range(size)))
            (projects[size].root / "compose" / "compose.yaml").write_text(text)
            docker_compose(projects[size], "up", "-d")
        yield projects


def _worker(number: int) -> str:
    """Return a service of a compose file."""
    return f"""
  worker{number}:
    image: ${{PYTHON_IMAGE}}
    init: true
    command: [sh, -c, "seq 100; exec sleep infinity"]
    environment: {{LEVEL: info, NUMBER: "{number}"}}
    mem_limit: 64m
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A project whose sources may change, with an image of its own, `name`, and what Docker's own command builds."""

    project: Sandbox
    name: str
    base: str
    dockerfile: Path
    one_stage: Path

    @property
    def plain_name(self) -> str:
        """The name of what Docker's own command builds."""
        return f"{self.name}-plain"

    def change(self) -> None:
        """Change a source to what no build has seen."""
        with (self.dockerfile.parent / "stockhelper_app" / "app.py").open("a") as source:
            source.write(f"# {time.time_ns()}\n")

    def docker_build(self, dockerfile: Path) -> float:
        """Build with Docker's own command, by the builder that the SDK uses, and return how long it took."""
        options = ["-q", "-f", str(dockerfile), "-t", self.plain_name, "--build-arg", f"PYTHON_IMAGE={self.base}"]
        environment = self.project.environment({"DOCKER_BUILDKIT": "0"})
        return seconds(["docker", "build", *options, "."], self.project.root, environment)

    def over_base(self, tag: str) -> float:
        """Return how many bytes an image adds to its base."""
        whole, base = (client().images.get(name).attrs["Size"] for name in (tag, self.base))
        return float(whole - base)


@contextmanager
def image(folder: Path) -> Iterator[Image]:
    """Make the project and build it once; all its images go at the end."""
    with own_release(folder) as release:
        one_stage = release.dockerfile.with_name("Dockerfile.one-stage")
        one_stage.write_text(as_one_stage(release.dockerfile.read_text()))
        stockhelper(release.project, "build")
        yield Image(release.project, release.image, base_images()["PYTHON_IMAGE"], release.dockerfile, one_stage)


def as_one_stage(dockerfile: str) -> str:
    """Return a Dockerfile's text with its two stages as one: what is copied between them is there already."""
    builder, last = dockerfile.split("\nFROM ${PYTHON_IMAGE}\n")
    lines = []
    for line in last.splitlines():
        match line.split():
            case ["COPY", "--from=builder", source, target] if source == target:
                pass
            case ["COPY", "--from=builder", source, target]:
                lines.append(f"RUN cp -r {source} {target}")
            case _:
                lines.append(line)
    return "\n".join([builder, *lines, ""])


@dataclass(frozen=True, slots=True)
class Bars:
    """A stack, and a file of bars for its database."""

    project: Sandbox
    file: Path

    def bring_in(self, *command: str, empty: bool = True) -> float:
        """Run a command line that reads the bars from its input, and return how long it took.

        The table of bars is emptied before where that is wanted, and what is dirty is written.
        """
        self.project.psql(("TRUNCATE daily_bars;" if empty else "") + "CHECKPOINT")
        with self.file.open("rb") as bars:
            return seconds([STOCKHELPER, *command], self.project.root, self.project.environment({}), stdin=bars)


@contextmanager
def bars(folder: Path) -> Iterator[Bars]:
    """Make our stack, bring it up, and write a file of made-up bars, sorted by day as providers do."""
    with sandbox(folder / "own") as project:
        project.up()
        file = folder / "bars.csv"
        with file.open("w") as stream:
            stream.write(",".join(BAR_COLUMNS) + "\n")
            for day in (_FIRST_DAY + dt.timedelta(days=number) for number in range(_DAYS)):
                for number in range(_SHARES):
                    low, high = 9 + number % 7, 17 + number % 5
                    prices = f"{low}.12,{high}.50,{low}.05,{high}.10"
                    stream.write(f"{600000 + number}.SH,{day},{prices},{number}00,{number}000.50,1.234\n")
        yield Bars(project, file)


# --- what is done on them
def settle(project: Sandbox) -> None:
    """Wait for the engine's own health checks, the first of which come after a whole interval.

    Until then everybody who wants to know more than the engine asks the service, and that is not what is compared.
    """
    deadline = time.monotonic() + TIME_LIMIT
    while {project.container(name)["State"]["Health"]["Status"] for name in ("db", "app")} != {"healthy"}:
        assert time.monotonic() < deadline, "the engine does not see that the stack is healthy"
        time.sleep(0.5)


def clear(project: Sandbox) -> None:
    """Remove a stack and its data."""
    remove_leftovers(project.name)


def take_down(project: Sandbox) -> None:
    """Remove a stack, its database stopped in good order; the data stay. The seed's service heeds no stop at all."""
    docker_compose(project, "down", "--timeout", "3")


def floor_file(project: Sandbox, target: Path) -> Path:
    """Write what the floor needs to make a project's stack, and return the file."""
    loaded = compose.load(project.root, environ=project.environment({}))
    major, minor = client().api.api_version.split(".")
    bodies = {}
    for name in ("db", "migrate", "app"):
        service = loaded.services[name]
        image_id = str(client().images.get(service.image).id)
        spec = container_spec(loaded, service, image_id=image_id, api_version=(int(major), int(minor)))
        bodies[spec.name] = spec.body
    (network,) = (network_spec(loaded, network) for network in loaded.networks.values())
    (volume,) = (volume_spec(loaded, volume) for volume in loaded.volumes.values())
    environment = loaded.services["db"].environment
    database, migration, app = bodies
    wanted: dict[str, Any] = {
        "network": {"name": network[0], "driver": "bridge", "labels": network[1]["Labels"]},
        "volume": {"name": volume[0], "labels": volume[1]["Labels"]},
        "containers": bodies,
        "database": database,
        "migration": migration,
        "app": app,
        "ask": {
            "command": ["sh", "-c", _ASK],
            "environment": {
                "PGUSER": environment["POSTGRES_USER"],
                "PGPASSWORD": environment["POSTGRES_PASSWORD"],
                "PGDATABASE": environment["POSTGRES_DB"],
            },
        },
        "health": f"{project.url}{HEALTH}",
        "label": project_filter(project.name),
    }
    target.write_text(json.dumps(wanted))
    return target


def plain_dump(project: Sandbox) -> float:
    """Stream a dump into a file as anybody would, and return how long it took."""
    target = project.root / "plain.dump"
    command = ["docker", "exec", f"{project.name}-db-1", "pg_dump", "-Fc", "-U", "stockhelper", "stockhelper"]
    began = time.perf_counter()
    with target.open("wb") as file:
        subprocess.run(command, stdout=file, check=True, timeout=TIME_LIMIT)
    return time.perf_counter() - began
