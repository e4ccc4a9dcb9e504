"""From nothing to a healthy stack, there again, and down."""

from __future__ import annotations

import pytest

from tests.e2e.steps import healthy, runs
from tests.support.sandbox import Sandbox, client, execute, names_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

ROW = "600519.SH|Kweichow Moutai"
INSERT = "INSERT INTO stocks (symbol, name, exchange) VALUES ('600519.SH', 'Kweichow Moutai', 'SH')"
SELECT = "SELECT symbol, name FROM stocks"


def test_a_fresh_up_ends_with_a_healthy_and_migrated_stack_and_says_where_it_answers(project: Sandbox) -> None:
    result = project.run("up")

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


def test_up_in_a_pipe_says_one_line_for_each_thing_it_did(project: Sandbox) -> None:
    lines = project.run("up").err.splitlines()

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


def test_every_container_survives_three_restarts_and_none_has_to_be_killed(stack: Sandbox) -> None:
    database = client().containers.get(f"{stack.name}-db-1")
    for _ in range(3):
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


def test_a_dry_run_on_nothing_prints_the_plan_with_its_causes_and_does_nothing(project: Sandbox) -> None:
    result = project.run("up", "--dry-run")

    assert result.code == 0
    assert f"create volume {project.name}_postgres_data  (missing)" in result.out
    assert f"create network {project.name}_stock_helper_net  (missing)" in result.out
    assert f"create container {project.name}-app-1  (missing)" in result.out
    assert names_of(project.name) == []


def test_a_dry_run_on_a_stack_prints_what_changed_and_changes_nothing(stack: Sandbox) -> None:
    before = runs(stack)

    result = stack.run("up", "--dry-run", environment={"APP_MEMORY": "600m"})

    assert result.code == 0
    assert f"stop container {stack.name}-app-1  (configuration changed" in result.out
    assert f"{stack.name}-db-1" not in result.out
    assert runs(stack) == before
    assert len(names_of(stack.name)) == 5


def test_a_dry_run_says_in_json_what_it_would_do_and_that_it_did_not(project: Sandbox) -> None:
    result = project.up("--dry-run")

    assert result.json["result"]["changed"] is False
    assert result.json["result"]["dry_run"] is True
    assert f"start container {project.name}-app-1" in result.plan
    assert names_of(project.name) == []


def test_a_changed_setting_replaces_what_it_concerns_and_leaves_the_database_alone(stack: Sandbox) -> None:
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


def test_status_exits_with_0_when_all_is_well_and_shows_where_the_app_answers(stack: Sandbox) -> None:
    result = stack.run("status")

    assert result.code == 0
    assert f"127.0.0.1:{stack.port}->8000/tcp" in result.out
    assert "exited (0)" in result.out


def test_status_exits_with_1_while_the_app_is_stopped_and_up_starts_just_that(stack: Sandbox) -> None:
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
    client().containers.get(f"{stack.name}-app-1").remove(force=True)

    stack.up()

    assert healthy(stack)
    assert runs(stack, "db") == {"db": before["db"]}


def test_down_with_volumes_asks_first_and_without_a_terminal_does_nothing(stack: Sandbox) -> None:
    before = runs(stack)

    for arguments in (["--volumes"], ["--volumes", "--no-backup"]):
        assert stack.run("down", *arguments).code == 9

    assert runs(stack) == before
    assert healthy(stack)


def test_down_with_volumes_leaves_nothing_when_it_is_confirmed(project: Sandbox) -> None:
    project.up()

    result = project.run("down", "--volumes", "--no-backup", "--yes")

    assert result.code == 0, result.err
    assert names_of(project.name) == []


def test_down_where_nothing_is_does_nothing_and_says_so(project: Sandbox) -> None:
    result = project.run("down")

    assert result.code == 0
    assert "Nothing to do" in result.out
