"""`doctor` on the real engine: each fault is made for real, exactly it is named, and what can be mended is.

The faults of a stack that is up: its containers, its database, its app.
"""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.database.revisions import heads_of_sources
from stockhelper_cli.labels import CONFIG_HASH, ONEOFF, PROJECT, SERVICE
from tests.e2e.altering import altering, in_json
from tests.e2e.diagnosis import diagnose, names_only
from tests.e2e.steps import eventually, explained, healthy
from tests.sandbox import APP_IMAGE, RUN_PREFIX, Sandbox, base_images, client, sandbox


@pytest.fixture(scope="module")
def shared(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that is up, for faults that are made and undone."""
    with sandbox(tmp_path_factory.mktemp("faulty")) as made:
        made.up()
        yield made


@pytest.fixture
def faulty(shared: Sandbox) -> Iterator[Sandbox]:
    """The same; its settings are as they were when a test is over, and it is up."""
    kept = (shared.root / ".env").read_bytes()
    yield shared
    (shared.root / ".env").write_bytes(kept)
    shared.up("--remove-orphans")


def container(project: Sandbox, service: str) -> Any:
    return client().containers.get(f"{project.name}-{service}-1")


def override(project: Sandbox, text: str) -> None:
    """Put a compose file over the project's own."""
    (project.root / "over.yaml").write_text(text)
    project.set("COMPOSE_FILE", "compose/compose.yaml:over.yaml")


def with_app(project: Sandbox, **keys: str) -> None:
    """Put other keys over those of the app."""
    lines = [f"    {key}: {value}" for key, value in keys.items()]
    override(project, "\n".join(["services:", "  app:", *lines, ""]))


# --- the stack
def test_a_stack_that_is_up_tells_of_everything(shared: Sandbox) -> None:
    diagnosis = names_only(shared)
    stack = [id for id in diagnosis.findings if id.startswith(("stack.", "db.", "app."))]
    assert set(diagnosis.statuses(*stack)) == {"ok"}
    assert "answers 200 in " in diagnosis.told("app.health")
    assert "stockhelper 0." in diagnosis.told("app.version")


def test_a_stack_that_was_stopped_or_taken_down_is_no_fault(faulty: Sandbox) -> None:
    assert faulty.run("stop").code == 0
    assert "stopped; stockhelper up" in names_only(faulty).told("stack.running")
    assert faulty.run("down").code == 0
    diagnosis = names_only(faulty)
    assert "down; stockhelper up" in diagnosis.told("stack.running")
    assert diagnosis.statuses("stack.exited", "db.answers", "app.health") == ["skipped"] * 3


def test_a_service_that_does_not_run_beside_others_is_named_and_started(faulty: Sandbox) -> None:
    container(faulty, "app").stop()
    assert "app is stopped" in names_only(faulty, "stack.running").told("stack.running")
    container(faulty, "app").remove()
    container(faulty, "db").pause()
    told = names_only(faulty, "stack.running").told("stack.running")
    assert "app has no container" in told
    assert "db is paused" in told
    mended = diagnose(faulty, "--fix", "stack.running", "--yes")
    assert (mended.named, mended.fixed, healthy(faulty)) == (set(), ("stack.running",), True)


def test_a_container_that_was_killed_is_named_with_its_exit_code_and_last_words(faulty: Sandbox) -> None:
    container(faulty, "app").kill()
    told = names_only(faulty, "stack.exited").told("stack.exited")
    assert "exit code 137: killed" in told
    assert "app | " in told
    assert "stockhelper logs app" in told


def test_a_container_that_ran_out_of_memory_is_named_as_such_by_up_too(faulty: Sandbox) -> None:
    with_app(faulty, command="[python, -c, 'b = [bytes([1]) * 10**8 for _ in range(50)]']", restart='"no"')
    container(faulty, "app").remove(force=True)
    result = faulty.run("up", "--json")
    assert [finding["id"] for finding in result.json["error"]["findings"]] == ["stack.exited"]
    assert "out of memory (exit code 137)" in names_only(faulty, "stack.exited").told("stack.exited")
    container(faulty, "app").remove(force=True)


def test_a_service_that_exits_again_and_again_is_named_by_up_too(faulty: Sandbox) -> None:
    with_app(faulty, command='[sh, -c, "echo going down; exit 3"]')
    container(faulty, "app").remove(force=True)
    result = faulty.run("up", "--json")
    assert [finding["id"] for finding in result.json["error"]["findings"]] == ["stack.restarting"]
    told = names_only(faulty, "stack.restarting").told("stack.restarting")
    assert "app restarts again and again" in told
    assert "app | going down" in told
    container(faulty, "app").remove(force=True)


def test_a_restart_that_helped_is_told_beside_an_ok(shared: Sandbox, tmp_path: Path) -> None:
    app = container(shared, "app")
    os.kill(int(app.attrs["State"]["Pid"]), signal.SIGKILL)
    try:
        eventually(lambda: container(shared, "app").attrs["RestartCount"] == 1 and healthy(shared))
        names_only(shared, "stack.restarting")  # it may be the beginning of more
        later = (datetime.now(UTC) + timedelta(seconds=20)).isoformat()
        alter = in_json(lambda info: info.update(SystemTime=later))
        with altering(tmp_path / "docker.sock", "^GET /v[0-9.]+/info$", alter) as environment:
            diagnosis = diagnose(shared, "--skip", "engine.clock", environment=environment)
        assert not diagnosis.named
        assert "app was started again once since app was brought up" in diagnosis.told("stack.restarting")
    finally:
        app.restart()
        eventually(lambda: healthy(shared))


def test_a_service_that_its_check_calls_unhealthy_is_named_with_what_it_said(faulty: Sandbox) -> None:
    test = '[CMD-SHELL, "test -e /tmp/well || { echo all is lost; exit 1; }"]'
    lines = ["services:", "  other:", "    image: ${POSTGRES_IMAGE}", "    command: [sleep, '600']"]
    lines += ["    stop_signal: SIGKILL", "    networks: [stock_helper_net]", "    healthcheck:"]
    lines += [f"      test: {test}", "      interval: 100ms", "      retries: 1", ""]
    override(faulty, "\n".join(lines))
    faulty.run("up", "--timeout", "1")
    eventually(lambda: container(faulty, "other").attrs["State"]["Health"]["Status"] == "unhealthy")
    told = names_only(faulty, "stack.health").told("stack.health")
    assert "other is unhealthy\nits last check said: all is lost" in told


def test_a_name_that_a_stranger_has_is_named(faulty: Sandbox) -> None:
    assert faulty.run("down").code == 0
    name = f"{faulty.name}-app-1"
    stranger = client().containers.create(base_images()["POSTGRES_IMAGE"], name=name, labels={"stockhelper.test": "1"})
    try:
        told = names_only(faulty, "stack.names").told("stack.names")
        assert f"the container name {name} is taken" in told
        assert f"docker rename {name}" in told
    finally:
        stranger.remove()


def test_what_runs_with_other_settings_is_told_beside_an_ok(faulty: Sandbox) -> None:
    faulty.set("LOG_LEVEL", "DEBUG")
    told = names_only(faulty).told("stack.current")
    assert "app: configuration changed: environment (LOG_LEVEL)" in told


def test_a_stack_for_development_is_no_fault_and_told_as_such(faulty: Sandbox) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    faulty.set("DB_PORT", str(port))
    faulty.up("--dev")
    told = names_only(faulty).told("stack.current")
    assert "app was made with compose.dev.yaml (up --dev)" in told
    assert "app: configuration changed" in told


def test_data_that_the_next_up_would_leave_behind_is_warned_of(faulty: Sandbox) -> None:
    override(faulty, 'services: {db: {volumes: ["elsewhere:/var/lib/postgresql/data"]}}\nvolumes: {elsewhere: {}}\n')
    told = names_only(faulty, "stack.current").told("stack.current")
    assert (
        f"db has its data in the volume {faulty.name}_postgres_data, and the files name {faulty.name}_elsewhere" in told
    )


def test_an_orphan_is_told_of_and_warned_of_when_it_is_in_the_way(faulty: Sandbox) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    labels = {PROJECT: faulty.name, SERVICE: "former", ONEOFF: "False", CONFIG_HASH: "1"}
    client().containers.run(
        base_images()["POSTGRES_IMAGE"], ["sleep", "600"], name=f"{faulty.name}-former-1", labels=labels,
        stop_signal="SIGKILL", ports={"80/tcp": ("127.0.0.1", port)}, detach=True,
    )  # fmt: skip
    assert f"{faulty.name}-former-1 (running) belongs to no service" in names_only(faulty).told("stack.orphans")
    faulty.set("APP_PORT", str(port))
    told = names_only(faulty, "stack.orphans").told("stack.orphans")
    assert f"{faulty.name}-former-1 has port {port}" in told
    assert "stockhelper up --remove-orphans" in told


def test_a_volume_that_the_service_may_not_write_to_is_named_with_the_way_out(faulty: Sandbox) -> None:
    override(faulty, 'services: {app: {volumes: ["logs:/reports"]}}\nvolumes: {logs: {}}\n')
    faulty.up()
    diagnosis = names_only(faulty, "stack.volumes")
    told = diagnosis.told("stack.volumes")
    assert "app cannot write to /reports" in told
    assert "is not writable for user 10001" in told
    (command,) = diagnosis.findings["stack.volumes"]["remedy"]["commands"]
    subprocess.run(command.split(), check=True, capture_output=True)
    names_only(faulty)


# --- the database
def test_a_database_that_hangs_is_named_once(shared: Sandbox) -> None:
    database = container(shared, "db")
    (postmaster,) = [int(p[1]) for p in database.top()["Processes"] if p[-1].split()[0] == "postgres"]
    os.kill(postmaster, signal.SIGSTOP)
    try:
        diagnosis = names_only(shared, "db.answers")
        assert "runs and does not answer" in diagnosis.told("db.answers")
        assert diagnosis.statuses("app.health", "db.password") == ["skipped"] * 2
    finally:
        os.kill(postmaster, signal.SIGCONT)
        eventually(lambda: healthy(shared))


def test_a_password_that_was_changed_in_env_only_is_named_and_mended(faulty: Sandbox) -> None:
    before = load_dotenv(faulty.root / ".env")["POSTGRES_PASSWORD"]
    faulty.psql("CREATE TABLE mine (id int); INSERT INTO mine VALUES (7)")
    faulty.set("POSTGRES_PASSWORD", "another'one $with @:/?#%")
    told = names_only(faulty, "db.password").told("db.password")
    assert "refuses the password of stockhelper" in told
    error = faulty.run("up", "--json").json["error"]
    assert (error["code"], [f["id"] for f in error["findings"]]) == ("db.password_drift", ["db.password"])
    mended = diagnose(faulty, "--fix", "db.password", "--yes")
    assert (mended.named, mended.fixed) == (set(), ("db.password",))
    assert (faulty.psql("SELECT id FROM mine"), healthy(faulty)) == ("7", True)
    faulty.psql("DROP TABLE mine")
    faulty.psql(f"ALTER ROLE stockhelper PASSWORD '{before}'")


def test_an_app_that_the_database_does_not_let_in_is_named_and_mended(shared: Sandbox) -> None:
    shared.psql("ALTER ROLE stockhelper_app PASSWORD 'wrong'")
    shared.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'stockhelper_app'")
    diagnosis = names_only(shared, "db.app_login")
    assert "does not let the app in as stockhelper_app" in diagnosis.told("db.app_login")
    assert diagnosis.findings["app.health"]["summary"] == "needs db.app_login, which failed"
    mended = diagnose(shared, "--fix", "--yes")
    assert (mended.named, mended.fixed, healthy(shared)) == (set(), ("db.app_login",), True)


def test_an_index_that_was_not_built_to_its_end_is_named_and_how_to_build_it(shared: Sandbox) -> None:
    shared.psql("CREATE TABLE twice (id int); INSERT INTO twice VALUES (1), (1)")
    with pytest.raises(AssertionError, match="could not create unique index"):
        shared.psql("CREATE UNIQUE INDEX CONCURRENTLY lost ON twice (id)")
    diagnosis = names_only(shared, "db.indexes")
    assert (diagnosis.code, diagnosis.statuses("db.indexes")) == (0, ["warning"])
    assert "INVALID: public.lost" in diagnosis.told("db.indexes")
    shared.psql("DROP TABLE twice")


@pytest.mark.parametrize(
    ("revision", "line", "said"),
    [
        ("", "", "the database is at base, and the code needs {head}"),
        ("fff", "", "at revision fff, which this code does not have"),
        ("fff", "{head} fff", "the database is ahead of the code: it is at fff, and the code leads to {head}"),
    ],
    ids=["pending", "unknown", "ahead"],
)
def test_where_the_database_stands_to_the_code_is_named(shared: Sandbox, revision: str, line: str, said: str) -> None:
    def stand_at(revision: str, line: str) -> None:
        shared.psql("DELETE FROM alembic_version")
        shared.psql(f"INSERT INTO alembic_version SELECT '{revision}' WHERE '{revision}' <> ''")
        shared.psql(f"COMMENT ON TABLE alembic_version IS '{line}'")

    (head,) = heads_of_sources(shared.root / "migrations" / "versions")
    before = shared.psql("SELECT obj_description('alembic_version'::regclass, 'pg_class')")
    stand_at(revision, line.format(head=head))
    try:
        assert said.format(head=head) in names_only(shared, "db.migrations").told("db.migrations")
    finally:
        stand_at(head, before)


def test_several_heads_are_named_before_they_are_built(shared: Sandbox) -> None:
    versions = shared.root / "migrations" / "versions"
    (head,) = heads_of_sources(versions)
    files = [versions / f"{name}.py" for name in ("left", "right")]
    for file in files:
        file.write_text(f'revision = "{file.stem}"\ndown_revision = "{head}"\n')
    try:
        diagnosis = names_only(shared, "db.migrations", "image.current")
        assert "the migrations have 2 heads: left, right" in diagnosis.told("db.migrations")
    finally:
        for file in files:
            file.unlink()


@contextmanager
def derived(base: str, *instructions: str) -> Iterator[str]:
    """Make an image of another, with further instructions, for the length of a block."""
    reference = f"localhost/{RUN_PREFIX}derived:1"
    dockerfile = "\n".join([f"FROM {base}", *instructions])
    client().images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=reference, rm=True)
    try:
        yield reference
    finally:
        client().images.remove(reference, force=True)


def test_an_image_of_another_major_is_warned_of_while_the_old_one_serves(shared: Sandbox) -> None:
    with derived(base_images()["POSTGRES_IMAGE"], "ENV PG_MAJOR=16") as image:
        other = {"POSTGRES_IMAGE": image}
        diagnosis = names_only(shared, "db.major", environment=other)
        assert "is of PostgreSQL 15, and the image is PostgreSQL 16" in diagnosis.told("db.major")
        error = shared.run("up", "--json", environment=other).json["error"]
        assert (error["code"], [f["id"] for f in error["findings"]]) == ("db.other_major", ["db.major"])


def test_another_container_on_the_volume_is_warned_of(shared: Sandbox) -> None:
    volume = f"{shared.name}_postgres_data"
    other = client().containers.run(
        base_images()["POSTGRES_IMAGE"], ["sleep", "600"], labels={"stockhelper.test": "1"}, detach=True,
        volumes={volume: {"bind": "/data", "mode": "rw"}},
    )  # fmt: skip
    try:
        assert f"is in use by the container {other.name}" in names_only(shared, "db.volume").told("db.volume")
    finally:
        other.remove(force=True)


# --- the app
def test_an_app_that_cannot_reach_its_database_tells_so(faulty: Sandbox) -> None:
    with_app(faulty, environment="{POSTGRES_PORT: '1'}")
    container(faulty, "app").remove(force=True)
    error = faulty.run("up", "--timeout", "3", "--json").json["error"]
    assert (error["code"], [f["id"] for f in error["findings"]]) == ("service.unhealthy", ["app.health"])
    told = names_only(faulty, "app.health").told("app.health")
    assert "/api/v1/health answers 503 in " in told
    assert '"database":"disconnected"' in told.replace(" ", "").replace("'", '"')
    assert "database not reachable" in told


def test_an_app_of_an_image_that_was_built_anew_is_told_beside_an_ok(shared: Sandbox) -> None:
    with derived(APP_IMAGE, "LABEL stockhelper.test=1") as image:
        told = names_only(shared, environment={"APP_IMAGE": image}).told("app.version")
    assert "and the next stockhelper up takes that" in told


# --- several
def test_two_faults_at_once_are_both_named_and_both_mended(faulty: Sandbox) -> None:
    faulty.psql("ALTER ROLE stockhelper PASSWORD 'another one'")
    container(faulty, "app").stop()
    names_only(faulty, "db.password", "stack.running")
    assert diagnose(faulty, "--fix", "db.password", "stack.running", "--yes").named == set()


def test_a_database_that_failed_is_the_one_failure(faulty: Sandbox) -> None:
    container(faulty, "db").kill()
    diagnosis = names_only(faulty, "stack.exited")
    assert diagnosis.findings["app.health"]["summary"] == "needs db.answers: the database does not run"


# --- a volume of little room, which becomes one that was never finished
@pytest.fixture(scope="module")
def small(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack whose database is on a file system of its own, of 300 MB."""
    with sandbox(tmp_path_factory.mktemp("small")) as made:
        options = "{type: tmpfs, device: tmpfs, o: 'size=300m,uid=70,gid=70'}"
        override(made, f"volumes: {{postgres_data: {{driver_opts: {options}}}}}\n")
        made.up()
        yield made


def test_a_disk_that_is_almost_full_is_warned_of_and_a_full_one_fails(small: Sandbox) -> None:
    diagnosis = names_only(small, "db.disk")
    assert diagnosis.statuses("db.disk") == ["warning"]
    database = container(small, "db")
    data = "/var/lib/postgresql/data"
    free = int(database.exec_run(["df", "-m", "--output=avail", data]).output.split()[-1])
    assert database.exec_run(["fallocate", "-l", f"{free - 20}m", f"{data}/filler"]).exit_code == 0
    diagnosis = names_only(small, "db.disk")
    assert diagnosis.statuses("db.disk") == ["failed"]
    assert re.match(r"2\d MB free where the database is", diagnosis.told("db.disk"))
    assert database.exec_run(["rm", f"{data}/filler"]).exit_code == 0


def test_a_first_start_that_was_never_finished_is_named_and_begun_anew_only_without_tables(small: Sandbox) -> None:
    psql = ["psql", "-U", "stockhelper", "-d", "postgres", "-c"]
    database = container(small, "db")
    for sql in ("DROP DATABASE stockhelper WITH (FORCE)", "CREATE TABLE mine (id int)"):
        assert database.exec_run([*psql, sql]).exit_code == 0
    skipping = ["--skip", "db.disk"]
    diagnosis = diagnose(small, *skipping)
    assert diagnosis.named == {"db.initialised"}
    assert "nothing is removed" in diagnosis.told("db.initialised")
    assert not diagnosis.findings["db.initialised"]["fixable"]
    explained(small.run("up"), 3, "what doctor finds:", "nothing is removed")
    assert database.exec_run([*psql, "DROP TABLE mine"]).exit_code == 0
    assert diagnose(small, *skipping).findings["db.initialised"]["fixable"]
    mended = diagnose(small, "--fix", "db.initialised", "--yes", *skipping)
    assert (mended.named, mended.fixed, healthy(small)) == (set(), ("db.initialised",), True)


def test_a_sync_that_failed_is_told_with_its_error_until_one_ends_well(shared: Sandbox) -> None:
    run = "INSERT INTO sync_runs (job, source, finished_at, outcome, error, first_day, last_day) VALUES ('sync', "
    shared.psql(run + "'tushare', now(), 'failed', 'the token is not valid', '2026-11-19', '2026-11-20')")
    try:
        diagnosis = names_only(shared, "app.sync")
        assert (diagnosis.code, diagnosis.statuses("app.sync")) == (0, ["warning"])
        for part in ("the last sync (tushare, ", "failed", "the token is not valid", "bars until 2026-11-20"):
            assert part in diagnosis.told("app.sync")
        shared.psql(run + "'csv', now() + '1 s', 'done', NULL, '2026-11-23', '2026-11-23')")
        assert "bars until 2026-11-23" in names_only(shared).told("app.sync")
    finally:
        shared.psql("DELETE FROM sync_runs")
