"""From nothing to a healthy stack, there again, and down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.steps import healthy, runs
from tests.support.sandbox import Result, Sandbox, client, execute, names_of, sandbox
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

ROW = "600519.SH|Kweichow Moutai"
INSERT = "INSERT INTO stocks (symbol, name, exchange) VALUES ('600519.SH', 'Kweichow Moutai', 'SH')"
SELECT = "SELECT symbol, name FROM stocks"


@pytest.fixture(scope="module")
def first_up(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Result]]:
    """A project on which `up` has run once, and what it said."""
    with sandbox(tmp_path_factory.mktemp("first")) as made:
        yield made, made.run("up", fresh=True)


def test_first_up_ends_healthy_migrated_and_prints_the_urls(first_up: tuple[Sandbox, Result]) -> None:
    """The first `up` ends with a healthy and migrated stack and prints the addresses of the app."""
    project, result = first_up

    assert result.code == 0, result.err
    assert f"The stock assistant answers: {project.url}\n" in result.out
    assert f"{project.url}/api/v1\n" in result.out
    assert f"{project.url}/api/v1/health\n" in result.out
    assert "<h1>Watchlist</h1>" in project.get("/").text
    assert healthy(project)
    answer = project.get("/api/v1/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "connected"})
    services = {service["service"]: service for service in project.run("status", "--json").json["result"]["services"]}
    assert services["db"]["health"] == "healthy"
    assert services["app"]["health"] == "healthy"
    assert (services["migrate"]["state"], services["migrate"]["exit_code"]) == ("exited", 0)
    assert project.psql("SELECT version_num FROM alembic_version") != ""


def test_up_in_a_pipe_says_one_line_for_each_thing_it_did(first_up: tuple[Sandbox, Result]) -> None:
    lines = first_up[1].err.splitlines()

    for part in ("volume", "network", "container", "db-1 started", "service db ready", "service app ready"):
        assert any(part in line for line in lines), lines
    assert not any("\x1b" in line for line in lines)


def test_a_second_up_changes_nothing_and_says_so(stack: Sandbox) -> None:
    before = runs(stack)

    result = stack.run("up")

    assert result.code == 0
    assert "Nothing to do" in result.out, result.err
    assert f"{stack.url}/api/v1\n" in result.out
    assert runs(stack) == before


def test_a_second_up_says_in_json_that_it_changed_nothing(stack: Sandbox) -> None:
    before = runs(stack)

    result = stack.up()

    assert result.json["result"]["changed"] is False
    assert result.plan == []
    assert result.json["result"]["urls"] == [stack.url]
    assert result.json["warnings"] == []
    assert runs(stack) == before


def test_a_row_survives_down_and_up(stack: Sandbox) -> None:
    stack.psql(INSERT)
    try:
        down = stack.run("down")
        assert down.code == 0, down.err
        assert names_of(stack.name) == [f"{stack.name}_postgres_data"]
        assert f"{stack.name}_postgres_data" in down.out

        stack.up()

        assert stack.psql(SELECT) == ROW
        assert healthy(stack)
    finally:
        stack.psql("DELETE FROM stocks")


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_containers_survive_restarts_without_a_kill(stack: Sandbox, times: int) -> None:
    """Every container survives restarts, and none has to be killed."""
    database = client().containers.get(f"{stack.name}-db-1")
    for _ in range(times):
        for service in ("db", "migrate", "app"):
            container = client().containers.get(f"{stack.name}-{service}-1")
            container.stop(timeout=stack.container(service)["Config"].get("StopTimeout", 10))
            assert stack.container(service)["State"]["ExitCode"] in (0, 143), service
            container.start()
            if service == "db":  # a migration does not wait for it
                eventually(lambda: execute(database, "pg_isready", "-q")[0] == 0)
        eventually(lambda: healthy(stack))
        eventually(lambda: stack.container("migrate")["State"]["Status"] == "exited")
        assert stack.container("migrate")["State"]["ExitCode"] == 0

    assert {service: stack.container(service)["RestartCount"] for service in ("db", "app")} == {"db": 0, "app": 0}
    assert stack.run("status").code == 0
    assert stack.up().plan == []


def test_dry_run_without_a_stack_prints_the_full_plan(project: Sandbox) -> None:
    """A dry run without a stack prints the plan with its reasons and creates nothing."""
    result = project.run("up", "--dry-run")

    assert result.code == 0
    assert f"create volume {project.name}_postgres_data  (missing)" in result.out
    assert f"create network {project.name}_stock_helper_net  (missing)" in result.out
    assert f"create container {project.name}-app-1  (missing)" in result.out
    assert names_of(project.name) == []


def test_dry_run_with_a_stack_prints_only_the_changes(stack: Sandbox) -> None:
    """A dry run with a running stack prints the changes and their reasons, and changes nothing."""
    before = runs(stack)

    result = stack.run("up", "--dry-run", environment={"APP_MEMORY": "600m"})

    assert result.code == 0
    assert f"stop container {stack.name}-app-1  (configuration changed" in result.out
    assert f"{stack.name}-db-1" not in result.out
    assert runs(stack) == before
    assert len(names_of(stack.name)) == 5


def test_dry_run_in_json_reports_plan_and_changed_false(project: Sandbox) -> None:
    """A dry run with `--json` reports the plan and that nothing changed."""
    result = project.up("--dry-run")

    assert result.json["result"]["changed"] is False
    assert result.json["result"]["dry_run"] is True
    assert f"start container {project.name}-app-1" in result.plan
    assert names_of(project.name) == []


def test_changed_setting_replaces_the_app_but_not_the_database(stack: Sandbox) -> None:
    before = runs(stack)

    result = stack.run("up", environment={"APP_MEMORY": "600m"})

    assert result.code == 0, result.err
    after = runs(stack)
    assert after["db"] == before["db"]
    assert after["app"] != before["app"]
    assert stack.container("app")["HostConfig"]["Memory"] == 600 << 20
    assert healthy(stack)
    assert len(names_of(stack.name)) == 5
    stack.up()
    assert stack.container("app")["HostConfig"]["Memory"] == 512 << 20


def test_status_exits_with_1_where_nothing_runs(project: Sandbox) -> None:
    result = project.run("status")

    assert result.code == 1
    assert "missing" in result.out


def test_status_of_a_healthy_stack_exits_0_and_shows_ports(stack: Sandbox) -> None:
    """`status` exits with 0 if everything is healthy, and shows the address of the app."""
    result = stack.run("status")

    assert result.code == 0
    assert f"127.0.0.1:{stack.port}->8000/tcp" in result.out
    assert "exited (0)" in result.out


def test_status_of_a_stopped_app_exits_1_and_up_starts_it(stack: Sandbox) -> None:
    """`status` exits with 1 while the app is stopped, and `up` starts only the app."""
    before = runs(stack)
    client().containers.get(f"{stack.name}-app-1").stop()

    assert stack.run("status").code == 1
    assert stack.run("status", "--json").json["ok"] is False

    assert stack.up().plan == [f"start container {stack.name}-app-1"]
    after = runs(stack)
    assert (after["db"], after["migrate"], after["app"][0]) == (before["db"], before["migrate"], before["app"][0])
    assert stack.run("status").code == 0


def test_what_was_removed_by_hand_is_there_again_after_up(stack: Sandbox) -> None:
    before = runs(stack)
    client().containers.get(f"{stack.name}-app-1").remove(force=True, v=True)

    stack.up()

    assert healthy(stack)
    assert runs(stack, "db") == {"db": before["db"]}


def test_down_with_volumes_without_a_terminal_does_nothing(stack: Sandbox) -> None:
    """`down --volumes` asks first, so without a terminal it fails and changes nothing."""
    before = runs(stack)

    for arguments in (["--volumes"], ["--volumes", "--no-backup"]):
        assert stack.run("down", *arguments, fresh=True).code == 9

    assert runs(stack) == before
    assert healthy(stack)


def test_down_with_volumes_leaves_nothing_when_it_is_confirmed(first_up: tuple[Sandbox, Result]) -> None:
    project, _ = first_up

    result = project.run("down", "--volumes", "--no-backup", "--yes")

    assert result.code == 0, result.err
    assert names_of(project.name) == []


def test_down_where_nothing_is_does_nothing_and_says_so(project: Sandbox) -> None:
    result = project.run("down")

    assert result.code == 0
    assert "Nothing to do" in result.out
