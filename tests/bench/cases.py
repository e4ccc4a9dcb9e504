"""What is measured, beside what, and what we aim at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Final, TypeAlias

from tests.bench import stages
from tests.bench.measure import Against, Case, Sample, Way
from tests.bench.stages import SIZES, Gap, Image, Starts, answers, docker_compose, python, stockhelper, until_healthy
from tests.support.sandbox import Sandbox

#: Runs a tool's command line in a project and returns how long it took (seconds).
Tool: TypeAlias = Callable[..., float]

#: The quantity of a case that has only one.
TIME: Final = ""
#: The quantity by which growth is compared.
EACH: Final = "each service more"
#: What comes before any of our work for the engine that changes something, and before that of a program in Go not.
START: Final = "before them Python, Typer and the compose files take 0.2 s, docker compose 0.06 s"
FLOOR: Final = str(stages.HERE / "floor.py")
#: Values of a variable, each of which no container has yet.
_new_value = count(1)


def runs(tool: Tool, *arguments: str) -> Callable[[Sandbox], Sample]:
    """Return what runs a command line in a project."""
    return lambda project: {TIME: tool(project, *arguments)}


# --- up, from nothing or with the data that are there
def up_ours(on: Starts) -> Sample:
    return {TIME: stockhelper(on.own, "up")}


def up_floor(on: Starts) -> Sample:
    return {TIME: python(on.own, FLOOR, "up", str(on.floor))}


def up_compose(on: Starts) -> Sample:
    return {TIME: docker_compose(on.own, "up", "-d", "--wait")}


def up_seed(on: Starts) -> Sample:
    return {TIME: docker_compose(on.seed, "up", "-d", "--wait")}


def up_case(name: str, work: str, prepare: Callable[[Sandbox], None], bound: str = "") -> Case:
    """Return the case of an `up` after both stacks were prepared like this; that they answer is seen each time.

    `bound` is what bounds it beside the seed's.
    """

    def prepared(way: Callable[[Starts], Sample], project: Callable[[Starts], Sandbox]) -> Callable[[Starts], Sample]:
        def once(on: Starts) -> Sample:
            prepare(project(on))
            sample = way(on)
            assert answers(project(on).port), "it is up, and does not answer"
            return sample

        return once

    def own(on: Starts) -> Sandbox:
        return on.own

    def seed(on: Starts) -> Sandbox:
        return on.seed

    return Case(
        name,
        work,
        stages.starts,
        Way("stockhelper up", prepared(up_ours, own)),
        [
            Against(Way("a bare script on the SDK", prepared(up_floor, own)), {TIME: 1.35}),
            Against(Way("docker compose up -d --wait", prepared(up_compose, own)), {TIME: 0.7}),
            Against(Way("the same on the seed's settings", prepared(up_seed, seed)), {TIME: 0.12}, {TIME: bound}),
        ],
    )


# --- on a stack that is up
def restarts(tool: Tool) -> Callable[[Sandbox], Sample]:
    """Return what restarts the service and measures, from outside, for how long it gave no answer."""

    def once(project: Sandbox) -> Sample:
        with Gap(project.port) as gap:
            taken = tool(project, "restart", "app") + until_healthy(project.port)
        return {"until healthy": taken, "without an answer": gap.seconds}

    return once


def takes_down(tool: Tool) -> Callable[[Sandbox], Sample]:
    """Return what takes down a stack that is up."""

    def once(project: Sandbox) -> Sample:
        project.up()
        return {TIME: tool(project, "down")}

    return once


def changes(tool: Tool, *arguments: str) -> Callable[[Sandbox], Sample]:
    """Return what changes a variable of the service's and brings the stack up with it."""

    def once(project: Sandbox) -> Sample:
        taken = tool(project, *arguments, BENCH=str(next(_new_value)))
        assert answers(project.port), "it is up, and does not answer"
        return {TIME: taken}

    return once


# --- images
def builds(build: Callable[[Image], float]) -> Callable[[Image], Sample]:
    """Return what builds the image after a change of a source, and once more."""

    def once(on: Image) -> Sample:
        on.change()
        return {"a source changed": build(on), "nothing changed": build(on)}

    return once


def build_ours(on: Image) -> float:
    return stockhelper(on.project, "build")


def build_docker(on: Image) -> float:
    return on.docker_build(on.dockerfile)


def size_ours(on: Image) -> Sample:
    return {**builds(build_ours)(on), "size over its base": on.over_base(on.name)}


def size_one_stage(on: Image) -> Sample:
    on.docker_build(on.one_stage)
    return {"size over its base": on.over_base(on.plain_name)}


# --- growth
def grows(tool: Tool, *arguments: str) -> Callable[[Mapping[int, Sandbox]], Sample]:
    """Return what runs a command line on stacks of all sizes, and what each service more costs."""

    def once(projects: Mapping[int, Sandbox]) -> Sample:
        taken = {size: tool(project, *arguments) for size, project in projects.items()}
        least, most = SIZES[0], SIZES[-1]
        each = (taken[most] - taken[least]) / (most - least)
        return {**{f"{size} services": value for size, value in taken.items()}, EACH: each}

    return once


def growth_case(name: str, work: str, ours: str, theirs: str) -> Case:
    """Return the case of a command line on more and more services."""
    compose = Way(f"docker compose {theirs}", grows(docker_compose, *theirs.split()))
    aims = {**{f"{size} services": None for size in SIZES}, EACH: 1.0}
    own = Way(f"stockhelper {ours}", grows(stockhelper, *ours.split()))
    return Case(name, work, stages.crowds, own, [Against(compose, aims)])


# --- backups
def backup_ours(project: Sandbox) -> Sample:
    result = project.run("backup", "create", "--verify", "--json").json["result"]
    seconds: Sample = result["seconds"]
    return seconds


def backup_plain(project: Sandbox) -> Sample:
    taken = stages.plain_dump(project)
    return dict.fromkeys(("dump", "count", "read_back", "verify"), taken)


# --- bars
COPY: Final = f"\\copy daily_bars({','.join(stages.BAR_COLUMNS)}) from stdin csv header"


def import_ours(on: stages.Bars) -> Sample:
    command = ("data", "import", str(on.file))
    return {"a million bars": on.bring_in(*command), "all there already": on.bring_in(*command, empty=False)}


def import_plain(on: stages.Bars) -> Sample:
    return {"a million bars": on.bring_in("psql", "-c", COPY)}


CASES: Final = (
    up_case("up-empty", "up, empty volume", stages.clear),
    up_case(
        "up-existing",
        "up, existing volume",
        stages.take_down,
        "the engine's own work: the bare script, which makes the same calls and nothing else, takes 0.12 of it too",
    ),
    Case(
        "up-again",
        "up, nothing to do",
        stages.settled,
        Way("stockhelper up", runs(stockhelper, "up")),
        [Against(Way("docker compose up -d --wait", runs(docker_compose, "up", "-d", "--wait")), {TIME: 0.7})],
    ),
    Case(
        "status",
        "status",
        stages.described,
        Way("stockhelper status", lambda on: {TIME: stockhelper(on.own, "status")}),
        [
            Against(
                Way("a bare script on the SDK", lambda on: {TIME: python(on.own, FLOOR, "status", str(on.floor))}),
                {TIME: 1.3},
            )
        ],
    ),
    Case(
        "restart",
        "restart app",
        stages.stack,
        Way("stockhelper restart app", restarts(stockhelper)),
        [
            Against(
                Way("docker compose restart app", restarts(docker_compose)),
                {"until healthy": 0.7, "without an answer": 0.7},
                {
                    "until healthy": f"the service's own stop, start and boot, the same for both; {START}",
                    "without an answer": "the service's own stop, start and boot, the same for both",
                },
            )
        ],
    ),
    Case(
        "down",
        "down",
        stages.stack,
        Way("stockhelper down", takes_down(stockhelper)),
        [
            Against(
                Way("docker compose down", takes_down(docker_compose)),
                {TIME: 1.0},
                {TIME: f"the engine's own stops and removals, the same for both; {START}"},
            )
        ],
    ),
    Case(
        "change",
        "one variable of app changed",
        stages.stack,
        Way("stockhelper up", changes(stockhelper, "up")),
        [Against(Way("docker compose up -d --wait", changes(docker_compose, "up", "-d", "--wait")), {TIME: 0.7})],
    ),
    Case("doctor", "doctor", stages.settled, Way("stockhelper doctor", runs(stages.doctor)), alone=[TIME]),
    *(
        Case(
            option.strip("-"),
            option,
            stages.project,
            Way(f"stockhelper {option}", runs(stockhelper, option)),
            [Against(Way('python -c "import typer"', runs(python, "-c", "import typer")), {TIME: 1.3})],
        )
        for option in ("--help", "--version")
    ),
    Case(
        "image",
        "image",
        stages.image,
        Way("stockhelper build", size_ours),
        [
            Against(Way("the same Dockerfile as one stage", size_one_stage), {"size over its base": 0.4}),
            Against(
                Way("docker build", builds(build_docker)),
                {"a source changed": 1.2, "nothing changed": 1.2},
                dict.fromkeys(
                    ("a source changed", "nothing changed"),
                    "Python, Typer, pydantic and the SDK, which take 0.4 s to start; the engine's part is the same for "
                    "both, and 0.1 s where nothing changed",
                ),
            ),
        ],
    ),
    growth_case("growth-status", "status", "status", "ps -a"),
    growth_case("growth-up", "up, nothing to do", "up", "up -d --wait"),
    growth_case("growth-logs", "logs --tail 10", "logs --tail 10", "logs --tail 10"),
    Case(
        "backup",
        "backup create --verify",
        stages.filled,
        Way("stockhelper backup create --verify", backup_ours),
        [
            Against(
                Way("docker exec … pg_dump > file", backup_plain),
                dict.fromkeys(("dump", "count", "read_back", "verify"), None),
            )
        ],
    ),
    Case(
        "import",
        "data import",
        stages.bars,
        Way("stockhelper data import", import_ours),
        [Against(Way("psql's \\copy of the same file", import_plain), {"a million bars": 2.0})],
        alone=["all there already"],
    ),
)
