"""What fails, fails early, is told with its cause, and takes nothing with it that ran before."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.steps import Baseline, healthy, runs
from tests.e2e.tunnel import tunnel
from tests.support.refusals import explained
from tests.support.sandbox import TIME_LIMIT, Result, Sandbox, client, interrupt, names_of, sandbox
from tests.support.template import Template
from tests.support.waiting import PATIENCE, eventually

ROW = "insert into stocks (symbol, name, exchange) values ('600519.SH', 'Kweichow Moutai', 'SH')"


@pytest.fixture(scope="module")
def baseline(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Baseline]:
    """A stack that is up, with a row in it that must outlive everything that is done to it here.

    Its path has spaces and letters beyond Latin.
    """
    with sandbox(tmp_path_factory.mktemp("股票 助手 é")) as made:
        template.copy_into(made)
        # The second file is named from the start: what .env says is part of two services.
        made.set("COMPOSE_FILE", "compose/compose.yaml:change.yaml")
        (made.root / "change.yaml").write_text("x-none: true\n")
        made.up()
        made.psql(ROW)
        yield Baseline(made)


@pytest.fixture
def standing(baseline: Baseline) -> Iterator[Sandbox]:
    """The same, up and healthy at the start of a test, its row still there at the end."""
    yield baseline.project
    baseline.restore()
    assert baseline.project.psql("select symbol from stocks") == "600519.SH"


def change(project: Sandbox, service: str, **keys: str) -> None:
    """Put an override over the project's compose file that changes keys of one service."""
    lines = [f"      {key}: {value}" for key, value in keys.items()]
    (project.root / "change.yaml").write_text("\n".join(["services:", f"    {service}:", *lines, ""]))
    project.set("COMPOSE_FILE", "compose/compose.yaml:change.yaml")


def test_release_that_exits_is_detected_and_rolled_back(standing: Sandbox) -> None:
    """A release that exits at once is detected at once, and the old container runs again."""
    before = runs(standing, "app")["app"][0]
    change(standing, "app", command='[sh, -c, "echo going down; exit 3"]')
    began = time.monotonic()
    result = standing.run("up", "--timeout", "280")
    assert time.monotonic() - began < 200
    explained(result, 5, "app exited before it was ready", "  | going down", "exit code 3")
    assert eventually(lambda: healthy(standing))
    assert runs(standing, "app")["app"][0] == before


def test_release_that_times_out_is_rolled_back(standing: Sandbox) -> None:
    """A release that never becomes healthy times out, and the old container runs again."""
    before = runs(standing, "app")["app"][0]
    change(standing, "app", command='[sh, -c, "echo idling; exec sleep 600"]', stop_grace_period="1s")
    explained(standing.run("up", "--timeout", "5"), 5, "app did not get healthy within 5 s", "  | idling")
    assert eventually(lambda: healthy(standing))
    assert runs(standing, "app")["app"][0] == before


def test_first_release_that_exits_keeps_its_container(project: Sandbox) -> None:
    """A first release that exits keeps its container, so its logs can be read."""
    change(project, "app", command='[sh, -c, "echo going down; exit 3"]', restart='"no"')
    explained(project.run("up"), 5, "  | going down", "next: stockhelper logs app")
    assert project.container("app")["State"]["ExitCode"] == 3
    assert "going down" in project.run("logs", "app").out


@pytest.mark.slow
def test_password_drift_is_reported_and_fixed_in_place(standing: Sandbox) -> None:
    """A password changed only in .env is reported, and `db set-password` fixes it in place."""
    path = standing.root / ".env"
    before = path.read_text()
    standing.set("POSTGRES_PASSWORD", "another'one $with @:/?#%")
    try:
        explained(standing.run("up"), 3, "refuses the password of stockhelper", "next: stockhelper db set-password")
        assert standing.run("db", "set-password").code == 0
        standing.up()
        assert healthy(standing)
    finally:
        path.write_text(before)
        standing.run("db", "set-password")


@contextmanager
def waiting_up(project: Sandbox) -> Iterator[subprocess.Popen[str]]:
    """Start an `up` that waits for an app that only sleeps; it is interrupted at the end of the block at the latest."""
    change(project, "app", command='[sh, -c, "exec sleep 600"]', stop_grace_period="1s")
    process = project.start("up", "--timeout", "280")
    try:
        eventually(lambda: app_sleeps(project))
        yield process
    finally:
        if process.returncode is None:
            interrupt(process, signal.SIGINT)


def test_of_two_ups_at_once_one_works_and_the_other_names_it(standing: Sandbox) -> None:
    """A second command is refused while an `up` is at work, which says what it has not done when it is interrupted."""
    database = runs(standing, "db")
    with waiting_up(standing) as first:
        second = standing.run("down", fresh=True)
        explained(second, 8, f"pid {first.pid} on ", "since ", "stockhelper status")
        assert standing.run("status").code in (0, 1), "readers never wait"
        assert_tells_what_is_left(interrupt(first, signal.SIGINT), 130)
    assert runs(standing, "db") == database


@pytest.mark.slow
def test_terminated_up_reports_what_is_left_to_do(standing: Sandbox) -> None:
    """An `up` that is told to end says what is not done, and running services continue."""
    database = runs(standing, "db")
    with waiting_up(standing) as process:
        assert_tells_what_is_left(interrupt(process, signal.SIGTERM), 143)
    assert runs(standing, "db") == database


def assert_tells_what_is_left(result: Result, code: int) -> None:
    explained(result, code, "what was started goes on running", "not done: wait for service app")


def test_killed_up_leaves_no_lock_and_the_next_one_finishes(standing: Sandbox) -> None:
    """A killed `up` leaves no lock, and the next one finishes its work."""
    change(standing, "app", environment='{LOG_LEVEL: "DEBUG"}')
    with tunnel() as remote:
        holder = standing.start("up", environment=remote.environment)
        remote.on_request(3, holder.kill)  # it has made another app, and stopped this one
        holder.communicate(timeout=TIME_LIMIT)
    assert any(name.endswith(f"_{standing.name}-app-1") for name in names_of(standing.name))
    standing.up()
    assert [name for name in names_of(standing.name) if name.startswith(f"{standing.name}-")] == [
        f"{standing.name}-{service}-1" for service in ("app", "db", "migrate")
    ]
    assert not [name for name in names_of(standing.name) if name.endswith(f"_{standing.name}-app-1")]
    assert healthy(standing)


def app_sleeps(project: Sandbox) -> bool:
    """Whether the successor that only sleeps has been started."""
    filters: dict[str, str | list[str] | bool] = {"label": f"com.docker.compose.project={project.name}"}
    containers = client().containers.list(filters=filters, ignore_removed=True)
    return any("_" in str(c.name) and "sleep 600" in str(c.attrs["Config"]["Cmd"]) for c in containers)


def test_it_works_from_a_subfolder(standing: Sandbox) -> None:
    assert standing.run("status", cwd=standing.root / "docker" / "app").code == 0


def test_path_with_spaces_and_unicode_works(standing: Sandbox) -> None:
    """The stack works in a path with spaces and non-Latin letters."""
    assert "股票 助手 é" in str(standing.root)
    assert healthy(standing)
    assert not standing.up().plan
    assert standing.compose("ps", "-q").stdout.strip()


def test_it_works_without_utf_8_and_on_a_narrow_screen(standing: Sandbox) -> None:
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "40"}
    for verb in ("up", "status", "config"):
        result = standing.run(verb, environment=plain, fresh=True)
        assert (result.code, "Traceback" in result.err) == (0, False), result.err


@pytest.mark.parametrize("verb", ["status", "config", "logs"])
def test_a_reader_that_goes_away_is_no_error_worth_a_trace(standing: Sandbox, verb: str) -> None:
    command = " ".join(standing.command(verb))
    for script in (f"{command} >&-", f"{command} | true"):
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=standing.root,
            env=standing.environment({}),
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert "bug in stockhelper" not in done.stderr


def test_engine_over_tcp_is_used_for_waiting(standing: Sandbox) -> None:
    """With an engine over TCP, `restart` waits for the app through the engine."""
    with tunnel() as remote:
        remote.let_through()
        assert standing.run("restart", "app", environment=remote.environment).code == 0
        assert standing.run("status", environment=remote.environment).code == 0


def test_engine_that_dies_exits_4_and_a_retry_works(project: Sandbox) -> None:
    """If the engine dies during `up`, the exit code is 4, and a retry works once it is back."""
    with tunnel() as remote:
        remote.on_request(3, remote.break_down)
        explained(project.run("up", environment=remote.environment), 4, "the engine")
    project.up()
    assert healthy(project)


@pytest.mark.parametrize(
    "changes", [pytest.param(number, marks=() if number == 7 else pytest.mark.slow) for number in range(1, 14, 2)]
)
def test_up_after_a_kill_at_any_engine_call_finishes(project: Sandbox, changes: int) -> None:
    """After a kill at any call to the engine, the next `up` ends as if nothing had happened."""
    with tunnel() as remote:
        process = project.start("up", environment=remote.environment)
        remote.on_request(changes, process.kill)
        process.communicate(timeout=TIME_LIMIT)
        assert process.returncode in (-signal.SIGKILL, 0)
    project.up()
    assert not project.up().plan
    assert healthy(project)
    containers = client().containers.list(all=True, filters={"label": f"com.docker.compose.project={project.name}"})
    assert sorted(str(container.name) for container in containers) == [
        f"{project.name}-{service}-1" for service in ("app", "db", "migrate")
    ]


def test_an_interrupted_pull_is_given_up(project: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as registry:
        image = f"127.0.0.1:{registry.getsockname()[1]}/silent:latest"
        project.set("POSTGRES_IMAGE", image)
        process = project.start("up")
        registry.settimeout(TIME_LIMIT)
        with registry.accept()[0]:
            began = time.monotonic()
            result = interrupt(process, signal.SIGTERM)
            assert time.monotonic() - began < PATIENCE
    explained(result, 143, f"not done: pull image {image}")
    assert names_of(project.name) == []
