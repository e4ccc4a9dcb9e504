"""A user goes from `stockhelper` to `docker compose` and back, verb by verb, and each sees what the other did."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.e2e.oracle import assert_nothing_to_do, hasten
from tests.e2e.steps import healthy, runs
from tests.support.sandbox import Sandbox, names_of, sandbox
from tests.support.template import Template
from tests.support.waiting import eventually

pytestmark = [pytest.mark.engine, pytest.mark.compose]


@pytest.fixture(scope="module")
def ours(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that `stockhelper up` has brought up; each test leaves it running."""
    with sandbox(tmp_path_factory.mktemp("ours")) as made:
        template.copy_into(made)
        hasten(made)
        made.up()
        yield made


@pytest.fixture(scope="module")
def theirs(swept: None, ours: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that `docker compose up -d --wait` has brought up; `ours` is named for its image."""
    with sandbox(tmp_path_factory.mktemp("theirs")) as made:
        hasten(made)
        made.compose("up", "-d", "--wait")
        yield made


def states(project: Sandbox) -> dict[str, str]:
    """Return each service's state as `stockhelper status` tells it."""
    services = project.run("status", "--json").json["result"]["services"]
    return {service["service"]: service["state"] for service in services}


def seen_by_compose(project: Sandbox) -> dict[str, str]:
    """Return each service's state as `docker compose ps` tells it."""
    rows = [json.loads(line) for line in project.compose("ps", "--all", "--format", "json").stdout.splitlines()]
    return {row["Service"]: row["State"] for row in rows}


def assert_came_up_well(project: Sandbox) -> None:
    """Check that the app answers, and that the engine found both services healthy and the migration done."""
    assert healthy(project)
    assert project.container("db")["State"]["Health"]["Status"] == "healthy"
    assert project.container("app")["State"]["Health"]["Status"] == "healthy"
    assert project.container("migrate")["State"]["ExitCode"] == 0


# --- on a stack that stockhelper brought up
def test_compose_finds_nothing_to_do_after_up(ours: Sandbox) -> None:
    said = ours.compose("--dry-run", "up", "-d").stderr

    verdicts = re.findall(rf"{ours.name}-(db|app)-1 +(\w+)", said)
    assert ("db", "Running") in verdicts
    assert ("app", "Running") in verdicts
    assert "Create" not in said
    assert "Recreate" not in said


def test_compose_sees_what_up_brought_up(ours: Sandbox) -> None:
    assert seen_by_compose(ours) == {"db": "running", "migrate": "exited", "app": "running"}
    assert ours.compose("exec", "-T", "app", "id", "-u").stdout == "10001\n"
    assert ours.name in ours.compose("ls").stdout


def test_compose_changes_nothing_that_up_brought_up(ours: Sandbox) -> None:
    before = runs(ours, "db", "app")

    ours.compose("up", "-d")

    assert runs(ours, "db", "app") == before
    assert ours.up().plan == []


def test_compose_reads_the_logs_of_a_stack_of_ours(ours: Sandbox) -> None:
    ours.get("/asked-for-by-a-test")

    def told() -> list[str]:
        return [x for x in ours.compose("logs", "--no-color", "app").stdout.splitlines() if "/asked-for-by-a-test" in x]

    assert eventually(told)[0].startswith("app-1  | ")
    assert "migrate-1  | " in ours.compose("logs", "--no-color").stdout


def test_compose_runs_a_command_in_a_service_of_ours(ours: Sandbox) -> None:
    assert ours.compose("exec", "-T", "db", "psql", "-U", "stockhelper", "-XAtc", "SELECT 6 * 7").stdout == "42\n"
    assert ours.compose("exec", "-T", "app", "sh", "-c", "exit 7", check=False).returncode == 7


def test_up_after_compose_restart_has_nothing_to_do(ours: Sandbox) -> None:
    """After `docker compose restart` of a stack that `up` created, `up` has nothing to do."""
    before = runs(ours, "db", "app")

    ours.compose("restart", "db", "app")

    after = runs(ours, "db", "app")
    assert {service: run[0] for service, run in after.items()} == {service: run[0] for service, run in before.items()}
    assert all(after[service][1] != before[service][1] for service in ("db", "app"))
    eventually(lambda: healthy(ours))  # of a database that does not answer yet, `up` cannot know the revision
    assert ours.up().plan == []
    assert ours.run("status").code == 0


def test_status_follows_compose_stop_and_start(ours: Sandbox) -> None:
    """`status` shows what Compose stopped and what it started again."""
    ours.compose("stop")
    assert states(ours) == {"db": "exited", "migrate": "exited", "app": "exited"}
    assert ours.run("status").code == 1

    ours.compose("start", "db", "app")
    eventually(lambda: healthy(ours))
    assert states(ours) == {"db": "running", "migrate": "exited", "app": "running"}
    assert ours.run("status").code == 0


def test_compose_follows_stockhelper_stop_and_start(ours: Sandbox) -> None:
    """Compose shows what `stop` stopped and what `start` started again."""
    assert ours.run("stop", "app").code == 0
    assert seen_by_compose(ours) == {"db": "running", "migrate": "exited", "app": "exited"}

    assert ours.run("start").code == 0
    assert seen_by_compose(ours) == {"db": "running", "migrate": "exited", "app": "running"}


def test_up_recreates_a_container_removed_by_compose(ours: Sandbox) -> None:
    """`up` recreates a container that Compose removed, and Compose finds nothing to do."""
    before = runs(ours, "db")
    ours.compose("rm", "--stop", "--force", "app")
    assert states(ours)["app"] == "missing"

    ours.up()

    assert runs(ours, "db") == before
    assert_nothing_to_do(ours, "db", "app")


def test_compose_removes_a_stack_of_up_and_keeps_its_data(ours: Sandbox) -> None:
    """Compose removes a stack that `up` started and keeps its data."""
    ours.compose("down")
    assert names_of(ours.name) == [f"{ours.name}_postgres_data"]

    ours.up()
    assert healthy(ours)


# --- on a stack that Compose brought up
def test_compose_starts_a_healthy_stack(theirs: Sandbox) -> None:
    """Compose starts a healthy stack from the root of the project."""
    assert_came_up_well(theirs)


@pytest.mark.slow
def test_compose_starts_a_healthy_stack_of_our_file_alone(ours: Sandbox, project: Sandbox) -> None:
    """The same without a second file: Compose waits for checks that come every 10 and 30 s."""
    project.compose("up", "-d", "--wait")
    assert_came_up_well(project)


def test_up_adopts_a_stack_of_compose_unchanged(theirs: Sandbox) -> None:
    """`up` adopts a stack that Compose started and changes no container."""
    before = runs(theirs)

    result = theirs.up()

    assert result.plan == []
    assert result.json["result"]["changed"] is False
    assert runs(theirs) == before
    assert theirs.run("status").code == 0


def test_status_tells_of_a_stack_that_compose_brought_up(theirs: Sandbox) -> None:
    result = theirs.run("status", "--json")

    assert result.code == 0
    assert states(theirs) == {"db": "running", "migrate": "exited", "app": "running"}
    assert result.json["result"]["urls"] == [theirs.url]
    assert result.json["result"]["orphans"] == []


def test_logs_reads_a_stack_that_compose_brought_up(theirs: Sandbox) -> None:
    theirs.get("/asked-for-by-a-test")

    eventually(lambda: "/asked-for-by-a-test" in theirs.run("logs", "app").out)
    said = theirs.run("logs").out
    for service in ("db", "migrate", "app"):
        assert f"{service}-1" in said


def test_exec_and_psql_work_on_a_stack_that_compose_brought_up(theirs: Sandbox) -> None:
    assert theirs.run("exec", "app", "--", "id", "-u").out == "10001\n"
    assert theirs.run("psql", "--", "-XAtc", "SELECT 6 * 7").out == "42\n"


def test_restart_keeps_the_containers_that_compose_made(theirs: Sandbox) -> None:
    before = runs(theirs)

    assert theirs.run("restart").code == 0

    after = runs(theirs)
    assert after["migrate"] == before["migrate"]
    assert [after[service][0] for service in ("db", "app")] == [before[service][0] for service in ("db", "app")]
    assert all(after[service][1] != before[service][1] for service in ("db", "app"))
    assert healthy(theirs)


def test_up_applies_a_change_to_a_stack_of_compose(theirs: Sandbox) -> None:
    """`up` applies a changed setting to a stack of Compose, and Compose finds nothing to do."""
    before, changed = runs(theirs), {"APP_MEMORY": "600m"}

    theirs.up(environment=changed)

    assert runs(theirs, "db") == {"db": before["db"]}
    assert theirs.container("app")["HostConfig"]["Memory"] == 600 << 20
    assert_nothing_to_do(theirs, "db", "app", environment=changed)


@pytest.mark.long("Compose brings a stack up, and does it again")
def test_down_removes_a_stack_of_compose_and_keeps_its_data(theirs: Sandbox) -> None:
    """`down` removes a stack that Compose started, and Compose finds the data afterwards."""
    theirs.psql("INSERT INTO stocks (symbol, name, exchange) VALUES ('600519.SH', 'Kweichow Moutai', 'SH')")

    assert theirs.run("down").code == 0
    assert names_of(theirs.name) == [f"{theirs.name}_postgres_data"]

    theirs.compose("up", "-d")
    assert theirs.up().plan == []
    assert theirs.psql("SELECT name FROM stocks") == "Kweichow Moutai"


def test_down_with_volumes_takes_away_all_that_compose_made(theirs: Sandbox) -> None:
    assert theirs.run("down", "--volumes", "--no-backup", "--yes").code == 0

    assert names_of(theirs.name) == []


def test_compose_down_with_volumes_removes_a_stack_of_up(ours: Sandbox) -> None:
    """`docker compose down --volumes` removes everything that stockhelper created."""
    ours.compose("down", "--volumes")

    assert names_of(ours.name) == []
    assert set(states(ours).values()) == {"missing"}
    assert "Nothing to do" in ours.run("down").out
