"""`doctor` on the real engine: each fault is made for real, exactly it is named, and what can be mended is.

The faults of a stack that is up: its network, its images, its database, its app.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psutil
import pytest

from stockhelper_cli.database.revisions import heads_of_sources
from stockhelper_cli.doctor.checks import db_sessions
from tests.e2e.diagnosis import diagnose, names_only, patient_command, run_patiently
from tests.e2e.steps import health, healthy, runs
from tests.support.ports import free_port
from tests.support.refusals import explained
from tests.support.sandbox import APP_IMAGE, RUN_PREFIX, Sandbox, base_images, client, execute, sandbox
from tests.support.template import Template
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def shared(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that is up, for faults that are made and undone."""
    with sandbox(tmp_path_factory.mktemp("faulty")) as made:
        template.copy_into(made)
        made.up()
        yield made


@pytest.fixture
def edited(shared: Sandbox) -> Iterator[Sandbox]:
    """The same; its settings are as they were when a test is over."""
    kept = (shared.root / ".env").read_bytes()
    yield shared
    (shared.root / ".env").write_bytes(kept)


def container(project: Sandbox, service: str) -> Any:
    return client().containers.get(f"{project.name}-{service}-1")


def override(project: Sandbox, text: str) -> None:
    """Put a compose file over the project's own."""
    (project.root / "over.yaml").write_text(text)
    project.set("COMPOSE_FILE", "compose/compose.yaml:over.yaml")


# --- healthy
def test_running_stack_passes_every_check_unchanged(shared: Sandbox) -> None:
    """A running stack passes every check, and `doctor` does not change it."""
    before = runs(shared)
    diagnosis = names_only(shared)
    assert (diagnosis.code, runs(shared)) == (0, before)
    assert not any(finding["fixable"] for finding in diagnosis.findings.values())
    assert set(diagnosis.statuses(*diagnosis.findings)) == {"ok"}
    assert "answers 200 in " in diagnosis.told("app.health")
    assert "stockhelper 0." in diagnosis.told("app.version")


def test_what_a_person_sees_fits_and_tells_how_it_ended(shared: Sandbox) -> None:
    result = shared.launch(patient_command("doctor"))
    assert (result.code, result.err) == (0, ""), result.out
    assert re.search(r"^Engine\n  ✓ engine\.reachable +Docker ", result.out, re.MULTILINE)
    assert not re.search(r"[ \t]$", result.out, re.MULTILINE)
    assert re.fullmatch(r"\d+ ok", result.out.splitlines()[-1].strip())


# --- the network and the images
def test_a_database_that_is_not_found_by_its_name_is_named(shared: Sandbox) -> None:
    network = client().networks.get(f"{shared.name}_stock_helper_net")
    network.disconnect(f"{shared.name}-db-1")
    network.connect(f"{shared.name}-db-1")
    try:
        diagnosis = names_only(shared, "network.dns")
        assert "app does not find db" in diagnosis.told("network.dns")
    finally:
        network.disconnect(f"{shared.name}-db-1")
        network.connect(f"{shared.name}-db-1", aliases=["db", f"{shared.name}-db-1"])
    # Its app has to find out first that its sessions have ended.
    eventually(lambda: healthy(shared))
    names_only(shared)


@contextmanager
def changed(project: Sandbox) -> Iterator[None]:
    """Have other sources of the service than its image was built of, for the length of a block."""
    path = project.root / "docker" / "app" / "stockhelper_app" / "routes.py"
    before = path.read_text()
    path.write_text(before + "\n# changed\n")
    try:
        yield
    finally:
        path.write_text(before)


def test_an_image_older_than_its_sources_is_told_beside_an_ok(shared: Sandbox) -> None:
    with changed(shared):
        diagnosis = diagnose(shared, "--only", "image.current")
    assert diagnosis.statuses("image.current") == ["ok"]
    assert f"the next stockhelper up builds {APP_IMAGE} anew" in diagnosis.told("image.current")


def test_default_mirror_is_read_from_the_base_image(shared: Sandbox) -> None:
    """Without a mirror setting, a build uses the mirror of its base image."""
    with changed(shared):
        told = diagnose(shared, "--only", "network.mirror").told("network.mirror")
    assert "the base image's" in told


@contextmanager
def derived(base: str, *instructions: str, name: str = "derived:1") -> Iterator[str]:
    """Make an image of another, with further instructions, for the length of a block."""
    reference = f"localhost/{RUN_PREFIX}{name}"
    dockerfile = "\n".join([f"FROM {base}", *instructions])
    client().images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=reference, rm=True)
    try:
        yield reference
    finally:
        client().images.remove(reference, force=True)


def test_image_of_another_family_is_reported_with_the_risks(shared: Sandbox) -> None:
    """Another image family on the same volume is reported with what it puts at risk."""
    base = base_images()["POSTGRES_IMAGE"]
    with derived(base, "ENV PG_VERSION=15.8-1.pgdg120+1") as debian:
        told = diagnose(shared, environment={"POSTGRES_IMAGE": debian}).told("image.family")
        assert f"{debian} is Debian (glibc), and the volume has been served by " in told
        assert "the new server is user 999, and refuses" in told
    with derived(base, name="derived:15-alpine") as alpine:
        environment = {"POSTGRES_IMAGE": alpine}
        assert diagnose(shared, environment=environment).statuses("image.family") == ["ok"], "all is in the C collation"
        shared.psql('create index by_library on stocks (name collate "C.utf8")')
        shared.psql("update pg_collation set collcollate = 'de_DE.utf8' where collname = 'C.utf8'")
        try:
            told = diagnose(shared, environment=environment).told("image.family")
            assert "0 databases and 1 indexes are in the order of text of the C library" in told
        finally:
            shared.psql("drop index by_library")
            shared.psql("update pg_collation set collcollate = 'C.utf8' where collname = 'C.utf8'")


# --- the stack
def test_what_runs_with_other_settings_is_told_beside_an_ok(edited: Sandbox) -> None:
    edited.set("LOG_LEVEL", "DEBUG")
    told = names_only(edited).told("stack.current")
    assert "app: configuration changed: environment (LOG_LEVEL)" in told


def test_data_that_the_next_up_would_leave_behind_is_warned_of(edited: Sandbox) -> None:
    override(edited, 'services: {db: {volumes: ["elsewhere:/var/lib/postgresql/data"]}}\nvolumes: {elsewhere: {}}\n')
    told = names_only(edited, "stack.current").told("stack.current")
    assert (
        f"db has its data in the volume {edited.name}_postgres_data, and the files name {edited.name}_elsewhere" in told
    )


# --- the database
def test_a_database_that_hangs_is_named_once(shared: Sandbox) -> None:
    # Below the container's init process. A session's process has the same name for a moment, one level deeper.
    first = psutil.Process(container(shared, "db").attrs["State"]["Pid"])
    (postmaster,) = [child for child in first.children() if child.name() == "postgres"]
    postmaster.suspend()
    try:
        diagnosis = names_only(shared, "db.answers")
        assert "runs and does not answer" in diagnosis.told("db.answers")
        assert diagnosis.statuses("app.health", "db.password") == ["skipped"] * 2
    finally:
        postmaster.resume()
        eventually(lambda: healthy(shared))


def test_a_database_that_failed_is_the_one_failure(shared: Sandbox) -> None:
    container(shared, "db").kill()
    try:
        diagnosis = names_only(shared, "stack.exited")
        assert diagnosis.findings["app.health"]["summary"] == "needs db.answers: the database does not run"
    finally:
        container(shared, "db").start()
        eventually(lambda: healthy(shared))


def test_password_drift_and_a_second_problem_are_fixed(
    shared: Sandbox,
) -> None:
    """A password changed only in .env is reported beside another problem, and both are fixed."""
    shared.psql("CREATE TABLE mine (id int); INSERT INTO mine VALUES (7)")
    shared.set("POSTGRES_PASSWORD", "another'one $with @:/?#%")
    container(shared, "app").stop()
    told = names_only(shared, "db.password", "stack.running").told("db.password")
    assert "refuses the password of stockhelper" in told
    error = run_patiently(shared, "up", "--json").json["error"]
    assert (error["code"], [f["id"] for f in error["findings"]]) == ("db.password_drift", ["db.password"])
    mended = diagnose(shared, "--fix", "db.password", "stack.running", "--yes")
    assert (mended.named, set(mended.fixed)) == (set(), {"db.password", "stack.running"})
    assert (shared.psql("SELECT id FROM mine"), healthy(shared)) == ("7", True)
    shared.psql("DROP TABLE mine")


def test_app_that_cannot_log_in_is_reported_and_fixed(shared: Sandbox) -> None:
    """An app that the database does not let in is reported, and `--fix` repairs its login."""
    shared.psql("ALTER ROLE stockhelper_app PASSWORD 'wrong'")
    shared.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'stockhelper_app'")
    diagnosis = names_only(shared, "db.app_login")
    assert "does not let the app in as stockhelper_app" in diagnosis.told("db.app_login")
    assert diagnosis.findings["app.health"]["summary"] == "needs db.app_login, which failed"
    mended = diagnose(shared, "--fix", "--yes")
    assert (mended.named, mended.fixed, healthy(shared)) == (set(), ("db.app_login",), True)


def test_invalid_index_is_a_warning(shared: Sandbox) -> None:
    """An index whose build did not finish is a warning."""
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
        diagnosis = diagnose(shared, "--only", "db.migrations")
        assert diagnosis.named == {"db.migrations"}
        assert "the migrations have 2 heads: left, right" in diagnosis.told("db.migrations")
    finally:
        for file in files:
            file.unlink()


@contextmanager
def asking(project: Sandbox, script: str) -> Iterator[None]:
    """Let a shell script run in the database's container for the length of a block; its sessions end with it."""
    database = container(project, "db")
    database.exec_run(["sh", "-c", script], environment={"PGUSER": "stockhelper", "PGAPPNAME": "visitor"}, detach=True)
    try:
        yield
    finally:
        project.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'visitor'")


def visitors(project: Sandbox, state: str) -> int:
    """Return how many of such sessions are in a state."""
    return int(
        project.psql(
            f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'visitor' AND coalesce({state}, false)"
        )
    )


def test_connections_almost_used_up_are_a_warning(shared: Sandbox) -> None:
    """Connections that are almost used up are a warning that names who holds them."""
    many = "echo 'SELECT pg_sleep(600)' | pgbench -n -c 88 -j 1 -t 1 -f - stockhelper"
    with asking(shared, many):
        eventually(lambda: visitors(shared, "true") == 88)
        diagnosis = names_only(shared, "db.connections")
        assert (diagnosis.code, diagnosis.statuses("db.connections")) == (0, ["warning"])
        assert re.search(r"of stockhelper 8\d, stockhelper_app \d", diagnosis.told("db.connections"))
    eventually(lambda: visitors(shared, "true") == 0)


def test_idle_or_blocking_session_is_a_warning(shared: Sandbox) -> None:
    """A session that is idle in a transaction or blocks another one is a warning."""
    idle = "(echo 'BEGIN; LOCK TABLE stocks;'; sleep 600) | psql -q stockhelper"
    with asking(shared, idle):
        eventually(lambda: visitors(shared, "state = 'idle in transaction'") == 1)
        with patch.object(db_sessions, "IDLE_SECONDS", float("inf")):
            assert "(stockhelper, visitor)" in names_only(shared).told("db.sessions"), "it may be about to end"
        with patch.object(db_sessions, "IDLE_SECONDS", 0.0):
            diagnosis = names_only(shared, "db.sessions")
        assert (diagnosis.code, diagnosis.statuses("db.sessions")) == (0, ["warning"])
        assert re.search(
            r"session \d+ \(stockhelper, visitor\) has done nothing for \d+ s", diagnosis.told("db.sessions")
        )
        with asking(shared, "psql -q stockhelper -c 'SELECT count(*) FROM stocks'"):
            eventually(lambda: visitors(shared, "wait_event_type = 'Lock'") == 1)
            with patch.object(db_sessions, "HOLDING_SECONDS", 0.0):
                diagnosis = names_only(shared, "db.sessions")
            assert "has kept another waiting" in diagnosis.told("db.sessions")
            (command,) = diagnosis.findings["db.sessions"]["remedy"]["commands"]
            assert shared.run(*shlex.split(command)[1:]).code == 0
            eventually(lambda: visitors(shared, "true") == 0)
    names_only(shared)


@contextmanager
def database(project: Sandbox, name: str, options: str) -> Iterator[None]:
    """Make a database beside the app's for the length of a block."""
    project.psql(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
    try:
        yield
    finally:
        project.psql(f"DROP DATABASE {name} WITH (FORCE)")


def test_damaged_page_is_reported_after_it_is_read(shared: Sandbox) -> None:
    """A page damaged on the disk is reported after the server has read it."""
    with database(shared, "spoilt", "STRATEGY file_copy"):
        # Never read since it was copied on the disk, so what is on the disk is what will be read.
        file = shared.psql(
            "SELECT 'base/' || oid || '/' || (SELECT pg_relation_filenode('pg_ts_dict'))"
            " FROM pg_database WHERE datname = 'spoilt'"
        )
        command = f'printf spoilt | dd of="$PGDATA/{file}" bs=1 seek=4000 conv=notrunc'
        assert execute(container(shared, "db"), "sh", "-c", command)[0] == 0
        read = ["psql", "-U", "stockhelper", "-d", "spoilt", "-c", "SELECT count(*) FROM pg_ts_dict"]
        assert "invalid page" in execute(container(shared, "db"), *read)[1]
        diagnosis = names_only(shared, "db.checksums")
        assert (diagnosis.code, diagnosis.statuses("db.checksums")) == (1, ["failed"])
        assert "damaged pages were read of spoilt" in diagnosis.told("db.checksums")
        assert f"invalid page in block 0 of relation {file}" in diagnosis.told("db.checksums")
    names_only(shared)


def test_changed_collation_version_is_a_warning(shared: Sandbox) -> None:
    """A database whose collation version differs from that of the server is a warning."""
    with database(shared, "words", "LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C'"):
        shared.psql("UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'words'")
        diagnosis = names_only(shared, "db.collation")
        assert (diagnosis.code, diagnosis.statuses("db.collation")) == (0, ["warning"])
        assert "words was made with version 1.0; the server has " in diagnosis.told("db.collation")
        for command in diagnosis.findings["db.collation"]["remedy"]["commands"]:
            assert shared.run(*shlex.split(command)[1:]).code == 0
        names_only(shared)


def test_limits_too_low_for_the_server_are_a_warning(edited: Sandbox) -> None:
    """Limits that are too low for the settings of the server are a warning."""
    edited.set("DB_MEMORY", "200m")
    edited.set("DB_PIDS", "30")
    override(edited, "services: {db: {shm_size: 16m}}\n")
    diagnosis = names_only(edited, "db.limits")
    assert (diagnosis.code, diagnosis.statuses("db.limits")) == (0, ["warning"])
    for part in (
        "memory: 200 MB (DB_MEMORY), and it may use 240 MB",
        "processes: 30 (DB_PIDS), and it may need 34",
        "/dev/shm: 16 MB (shm_size), and a query may need 24 MB",
    ):
        assert part in diagnosis.told("db.limits")


def test_image_of_another_major_version_is_reported(shared: Sandbox) -> None:
    """An image of another PostgreSQL major version is reported while the old server runs."""
    with derived(base_images()["POSTGRES_IMAGE"], "ENV PG_MAJOR=16") as image:
        other = {"POSTGRES_IMAGE": image}
        diagnosis = names_only(shared, "db.major", environment=other)
        assert "is of PostgreSQL 15, and the image is PostgreSQL 16" in diagnosis.told("db.major")
        error = run_patiently(shared, "up", "--json", environment=other).json["error"]
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
        other.remove(force=True, v=True)


# --- the app
def test_an_app_that_cannot_reach_its_database_tells_so(shared: Sandbox) -> None:
    # Named by the environment: what .env says is part of the migration too.
    (shared.root / "over.yaml").write_text("services: {app: {environment: {POSTGRES_PORT: '1'}}}\n")
    lost = {"COMPOSE_FILE": "compose/compose.yaml:over.yaml"}
    container(shared, "app").remove(force=True, v=True)
    try:
        error = run_patiently(shared, "up", "--timeout", "5", "--json", environment=lost).json["error"]
        assert (error["code"], [f["id"] for f in error["findings"]]) == ("service.unhealthy", ["app.health"])
        eventually(lambda: health(shared) == 503 and b"database not reachable" in container(shared, "app").logs(tail=8))
        told = names_only(shared, "app.health", environment=lost).told("app.health")
        assert "/api/v1/health answers 503 in " in told
        assert '"database":"disconnected"' in told.replace(" ", "").replace("'", '"')
        assert "database not reachable" in told
    finally:
        shared.up("--remove-orphans")


def test_rebuilt_app_image_is_ok_with_a_note(shared: Sandbox) -> None:
    """A rebuilt app image is mentioned, but the check passes."""
    with derived(APP_IMAGE, "LABEL stockhelper.test=1") as image:
        told = names_only(shared, environment={"APP_IMAGE": image}).told("app.version")
    assert "and the next stockhelper up takes that" in told


def test_pools_that_do_not_fit_into_the_server_are_warned_of(edited: Sandbox) -> None:
    assert "8 at most (1 worker × 5, and a few) of 97" in names_only(edited).told("app.connections")
    edited.set("DB_MEMORY", "2g")
    edited.set("WEB_CONCURRENCY", "4")
    edited.set("DB_POOL_SIZE", "25")
    diagnosis = names_only(edited, "app.connections")
    assert (diagnosis.code, diagnosis.statuses("app.connections")) == (0, ["warning"])
    assert "103 at most (4 workers × 25, and a few) of 97" in diagnosis.told("app.connections")


def test_failed_sync_is_a_warning_until_one_succeeds(shared: Sandbox) -> None:
    """A failed sync is a warning with its error until another one succeeds."""
    run = "INSERT INTO sync_runs (job, source, started_at, finished_at, outcome, error, first_day, last_day) VALUES "
    end = "'2026-11-19', '2026-11-20')"
    shared.psql(f"{run} ('sync', 'tushare', now() - interval '1 h', now(), 'failed', 'no answer', {end}")
    shared.psql(f"{run} ('sync', 'tushare', now(), now(), 'failed', 'the token is not valid', {end}")
    try:
        diagnosis = names_only(shared, "app.sync")
        assert (diagnosis.code, diagnosis.statuses("app.sync")) == (0, ["warning"])
        for part in ("the last sync (tushare, ", "failed", "the token is not valid", "bars until 2026-11-20"):
            assert part in diagnosis.told("app.sync")
        assert "2 of them in a row ended so" in diagnosis.told("app.sync")
        shared.psql(f"{run} ('sync', 'csv', now(), now(), 'done', NULL, '2026-11-23', '2026-11-23')")
        assert "bars until 2026-11-23" in names_only(shared).told("app.sync")
    finally:
        shared.psql("DELETE FROM sync_runs")


def test_schedule_without_new_bars_is_a_warning(edited: Sandbox) -> None:
    """A schedule that has brought no bars for a long time is a warning."""
    ended = "INSERT INTO sync_runs (job, source, finished_at, outcome, first_day, last_day) VALUES ('sync', "
    edited.psql(f"{ended}'tushare', now() - interval '15 d', 'done', now() - interval '20 d', now() - interval '15 d')")
    try:
        names_only(edited)  # its schedule is not the service's
        edited.set("SCHEDULER_ENABLED", "true")
        diagnosis = names_only(edited, "app.sync")
        assert (diagnosis.code, diagnosis.statuses("app.sync")) == (0, ["warning"])
        assert re.search(r"no bars have come from tushare for 1[56] days", diagnosis.told("app.sync"))
        edited.psql("UPDATE sync_runs SET source = 'csv'")
        names_only(edited)  # files end when they end
    finally:
        edited.psql("DELETE FROM sync_runs")


# --- a first start that was never finished: what it makes of the shared stack is one without data
@pytest.mark.long("two first starts of a database")
def test_unfinished_first_start_is_fixable_without_tables(shared: Sandbox) -> None:
    """An unfinished first start is reported, and it is repeated only if there are no tables."""
    psql = ["psql", "-U", "stockhelper", "-d", "postgres", "-c"]
    database = container(shared, "db")
    for sql in ("DROP DATABASE stockhelper WITH (FORCE)", "CREATE TABLE mine (id int)"):
        assert execute(database, *psql, sql)[0] == 0
    diagnosis = names_only(shared, "db.initialised")
    assert "nothing is removed" in diagnosis.told("db.initialised")
    assert not diagnosis.findings["db.initialised"]["fixable"]
    explained(run_patiently(shared, "up"), 3, "what doctor finds:", "nothing is removed")
    assert execute(database, *psql, "DROP TABLE mine")[0] == 0
    assert diagnose(shared).findings["db.initialised"]["fixable"]
    mended = diagnose(shared, "--fix", "db.initialised", "--yes")
    assert (mended.named, mended.fixed, healthy(shared)) == (set(), ("db.initialised",), True)


# --- a stack for development on a volume of little room
@pytest.fixture(scope="module")
def small(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that is up for development, whose database is on a file system of its own, of 300 MB."""
    with sandbox(tmp_path_factory.mktemp("small")) as made:
        options = "{type: tmpfs, device: tmpfs, o: 'size=300m,uid=70,gid=70'}"
        override(made, f"volumes: {{postgres_data: {{driver_opts: {options}}}}}\n")
        made.set("DB_PORT", str(free_port()))
        made.up("--dev")
        yield made


@pytest.mark.slow
def test_disk_almost_full_is_a_warning_and_full_is_a_failure(small: Sandbox) -> None:
    diagnosis = names_only(small, "db.disk")
    assert diagnosis.statuses("db.disk") == ["warning"]
    # That it is one for development is no fault.
    assert "app was made with compose.dev.yaml (up --dev)" in diagnosis.told("stack.current")
    assert "app: configuration changed" in diagnosis.told("stack.current")
    database = container(small, "db")
    data = "/var/lib/postgresql/data"
    free = int(execute(database, "df", "-m", "--output=avail", data)[1].split()[-1])
    assert execute(database, "fallocate", "-l", f"{free - 25}m", f"{data}/filler")[0] == 0
    diagnosis = names_only(small, "db.disk")
    assert diagnosis.statuses("db.disk") == ["failed"]
    assert re.match(r"2\d MB free where the database is", diagnosis.told("db.disk"))
    assert execute(database, "rm", f"{data}/filler")[0] == 0
