"""The stand-in base images on the real engine: what users of the official images rely on."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from stockhelper_cli import labels
from stockhelper_cli.engine import endpoints
from stockhelper_cli.engine.docker_engine import connect
from stockhelper_cli.machine.base_images import Recipe, StandIn, recipe_digest
from tests.support.sandbox import TIME_LIMIT, client, execute, run_container
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.slow

BASE = Path(__file__).parents[2] / "docker" / "base"
LABEL = {"stockhelper.test": "1"}
SOURCES = "etc/apt/sources.list.d/debian.sources"
PASSWORD = "it's @:/?#%\"\\ $x"
PGDATA = "/var/lib/postgresql/data"
#: What a server says when it takes connections.
READY = "database system is ready to accept connections"
#: As compose.yaml runs the database.
HARDENED: Mapping[str, Any] = {
    "user": "postgres",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "init": True,
    "tmpfs": {"/tmp": "", "/var/run/postgresql": ""},
}


def built(stand_in: StandIn) -> str:
    """Return a stand-in's name; it is built if this machine has it not, or not by the present recipe."""
    engine = connect(endpoints.find(os.environ))
    try:
        image = engine.image(stand_in.reference)
        if image is None or image.labels.get(labels.BASE_RECIPE) != recipe_digest(BASE, stand_in):
            Recipe(BASE, stand_in).build(engine, lambda event: None)
    finally:
        engine.close()
    return stand_in.reference


@pytest.fixture(scope="module")
def python() -> str:
    return built(StandIn("python", "3.13"))


@pytest.fixture(scope="module")
def postgres() -> str:
    return built(StandIn("postgres", "15"))


# --- Python


def test_python_is_small(python: str) -> None:
    assert client().images.get(python).attrs["Size"] <= 150e6


def test_python_has_what_the_official_slim_image_has(python: str) -> None:
    script = """
        set -eu
        test "$(python --version)" = "$(python3 --version)"
        python -c 'import sys; assert sys.version_info[:2] == (3, 13)'
        python -m venv /tmp/venv
        /tmp/venv/bin/pip --version
        test -f "$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
        test -s /etc/ssl/certs/ca-certificates.crt
        test -s /etc/apt/sources.list.d/debian.sources
        useradd --uid 10001 app
    """
    run_container(python, ["sh", "-c", script], labels=LABEL)


def test_python_image_has_no_caches_manuals_or_host_settings(python: str) -> None:
    """The Python image has no caches, no manuals and no settings of this machine."""
    script = """
        find /var/cache/apt /var/lib/apt/lists /var/log /usr/share/man /tmp /var/tmp -type f ! -name lock
        find /usr/share/doc -type f ! -name copyright
        find /etc/apt/apt.conf.d -type f | xargs grep -il proxy || true
        find /etc/apt -name 'auth.conf*' -type f
        find /usr/local/share/ca-certificates -type f
        find /usr/lib -name 'libpython3*.a'
    """
    assert run_container(python, ["sh", "-c", script], labels=LABEL) == ""


def test_stand_ins_have_the_security_suite(python: str, postgres: str) -> None:
    for image in (python, postgres):
        sources = run_container(image, ["cat", f"/{SOURCES}"], labels=LABEL, entrypoint="")
        assert re.findall("^Suites: .*-security$", sources, re.MULTILINE), image


def test_python_is_the_same_whatever_apt_has_fetched(tmp_path: Path) -> None:
    """Build the stand-in with all, some and none of the machine's package lists, and compare what is in it."""
    lists = tmp_path / "all"
    (lists / "partial").mkdir(parents=True)
    update = ["apt-get", "update", "-qq", "-o", f"Dir::State::lists={lists}"]
    subprocess.run(update, check=True, timeout=TIME_LIMIT)
    some, none = tmp_path / "some", tmp_path / "none"
    shutil.copytree(lists, some, ignore=shutil.ignore_patterns("*security*"))
    (none / "partial").mkdir(parents=True)

    def contents(folder: Path) -> tuple[str, str]:
        """Return the apt sources and the packages of a root file system built with these package lists."""
        config = folder.with_suffix(".conf")
        config.write_text(f'Dir::State::lists "{folder}";\n')
        archive = folder.with_suffix(".tar")
        with archive.open("wb") as file:
            command = [str(BASE / "python" / "recipe.sh"), "3.13"]
            environment = {**os.environ, "APT_CONFIG": str(config)}
            subprocess.run(command, stdout=file, env=environment, check=True, timeout=TIME_LIMIT)
        with tarfile.open(archive) as tar:
            texts = [tar.extractfile(f"./{name}") for name in (SOURCES, "var/lib/dpkg/status")]
            sources, status = (text.read().decode() for text in texts if text)
        return sources, "\n".join(re.findall("^(?:Package|Version): .*$", status, re.MULTILINE))

    with ThreadPoolExecutor(2) as pool:
        first, *others = pool.map(contents, (lists, some, none))
    assert "-security" in first[0]
    assert [other == first for other in others] == [True, True]


# --- what watches the stack


@pytest.mark.parametrize(
    ("family", "version", "tool"), [("prometheus", "2.53", "promtool"), ("alertmanager", "0.28", "amtool")]
)
def test_monitoring_images_are_small_and_complete(family: str, version: str, tool: str) -> None:
    """The Prometheus and Alertmanager images are small and contain what the official images contain."""
    image = built(StandIn(family, version))
    script = f"""
        test "$(id -u)" = 65534
        touch /{family}/written
        test -s /etc/ssl/certs/ca-certificates.crt
        {tool} --version
        wget --help 2>/dev/null
        test -z "$(find /etc/apt -type f)"
    """
    said = run_container(image, ["-euc", script], entrypoint="sh", labels=LABEL, stderr=True)
    assert f"{tool}, version {version}." in said
    assert client().images.get(image).attrs["Size"] <= 350e6


# --- PostgreSQL


@dataclass
class Cluster:
    """Containers of the stand-in on one volume; `run` starts a new one."""

    image: str
    volume: str = field(default_factory=lambda: f"shtest-pg-{uuid.uuid4().hex[:8]}")
    containers: list[Container] = field(default_factory=list)

    def run(
        self,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        *,
        before: str = "",
        **options: Any,
    ) -> Container:
        """Start a container; `before` is shell that runs in it before the image's entrypoint."""
        if before:
            script = f'{before}\nexec docker-entrypoint.sh "$@"'
            options["entrypoint"] = ["sh", "-euc", script, "sh"]
            command = command or ["postgres"]
        container: Container = client().containers.run(
            self.image,
            list(command) or None,
            detach=True,
            labels=LABEL,
            environment={"POSTGRES_PASSWORD": PASSWORD} if environment is None else dict(environment),
            volumes=[f"{self.volume}:{PGDATA}"],
            **options,
        )
        self.containers.append(container)
        return container

    def remove(self) -> None:
        for container in self.containers:
            container.remove(force=True, v=True)
        client().volumes.get(self.volume).remove()


@pytest.fixture
def cluster(postgres: str) -> Iterator[Cluster]:
    cluster = Cluster(postgres)
    client().volumes.create(cluster.volume, labels=LABEL)
    yield cluster
    cluster.remove()


def answer(container: Container, *command: str) -> str:
    return execute(container, *command)[1].strip()


def tcp(container: Container, sql: str, password: str = PASSWORD, user: str = "postgres", db: str = "") -> str:
    """Return what a query gives over the container's own address, where the password counts; "" if it fails."""
    script = f"psql -XAt -h $(hostname) -U {shlex.quote(user)} -d {shlex.quote(db or user)} -c {shlex.quote(sql)}"
    code, output = execute(container, "sh", "-c", script, environment={"PGPASSWORD": password})
    return output.strip() if code == 0 else ""


def log(container: Container) -> str:
    return str(container.logs().decode())


def wait_for(condition: Callable[[], bool], container: Container) -> None:
    def come_true() -> bool:
        if condition():
            return True
        container.reload()
        assert container.status == "running", log(container)
        return False

    eventually(come_true)


def ready(container: Container, **how: str) -> Container:
    # Not asked before: on what a killed one has left, a server takes a command of the number of its former self for it.
    wait_for(lambda: _logged(container, READY), container)
    wait_for(lambda: tcp(container, "SELECT 1", **how) == "1", container)
    return container


def _logged(container: Container, line: str) -> bool:
    return line in log(container)


def exit_code(container: Container) -> int:
    return int(container.wait(timeout=PATIENCE)["StatusCode"])


def test_postgres_is_small_and_says_how_it_is_run(postgres: str) -> None:
    image = client().images.get(postgres).attrs
    config = image["Config"]
    assert image["Size"] <= 400e6
    assert config["StopSignal"] == "SIGINT"
    assert list(config["Volumes"]) == [PGDATA]
    assert list(config["ExposedPorts"]) == ["5432/tcp"]
    assert {f"PGDATA={PGDATA}", "PG_MAJOR=15", "LANG=C.UTF-8"} <= set(config["Env"])


def test_postgres_started_as_root_runs_as_uid_70(cluster: Cluster) -> None:
    """A PostgreSQL container started as root runs as uid 70, which owns the data directory."""
    container = ready(cluster.run())
    uids = answer(container, "sh", "-c", "grep -hE '^(Uid|Gid):' /proc/1/status | cut -f2-5 | sort -u")
    assert uids == "70\t70\t70\t70"
    assert answer(container, "stat", "-c", "%u:%g %a", PGDATA) == "70:70 700"
    assert tcp(container, "SHOW listen_addresses") == "*"
    assert tcp(container, "SHOW server_encoding") == "UTF8"
    assert tcp(container, "SELECT pg_jit_available()") == "f"


def test_a_password_counts_over_the_network(cluster: Cluster) -> None:
    container = ready(cluster.run())
    assert tcp(container, "SELECT 1", password="wrong") == ""
    assert PASSWORD not in log(container)


def test_hardened_it_survives_three_restarts_with_its_rows(cluster: Cluster) -> None:
    container = ready(cluster.run(**HARDENED))
    tcp(container, "CREATE TABLE t (n int)")
    for n in range(3):
        assert tcp(container, f"INSERT INTO t VALUES ({n})") == "INSERT 0 1"
        container.restart(timeout=int(PATIENCE))
        ready(container)
    assert tcp(container, "SELECT count(*) FROM t") == "3"
    assert "not properly shut down" not in log(container)
    assert log(container).count("the first boot is finished") == 1


def test_stop_is_postgres_fast_shutdown(cluster: Cluster) -> None:
    container = ready(cluster.run())
    # A client that stays would hold up the smart shutdown that SIGTERM asks for.
    container.exec_run(["psql", "-U", "postgres", "-c", "SELECT pg_sleep(600)"], detach=True)
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sl'"
    wait_for(lambda: tcp(container, sleeping) == "1", container)
    container.stop(timeout=int(PATIENCE))
    assert exit_code(container) == 0
    assert "received fast shutdown request" in log(container)


def test_user_database_and_their_file_forms(cluster: Cluster) -> None:
    written = {
        "USER": "The Owner-1",
        "DB": "the data's",
        "PASSWORD": PASSWORD,
        "INITDB_ARGS": "--data-checksums --locale='C'",
    }
    before = "\n".join(f"printf '%s\\n' {shlex.quote(value)} > /tmp/{name}" for name, value in written.items())
    container = cluster.run(environment={f"POSTGRES_{name}_FILE": f"/tmp/{name}" for name in written}, before=before)
    ready(container, user=written["USER"], db=written["DB"])
    query = "SELECT current_user || '|' || current_database() || '|' || current_setting('data_checksums')"
    assert tcp(container, query, user=written["USER"], db=written["DB"]) == f"{written['USER']}|{written['DB']}|on"
    # The bootstrap user is the one that was asked for, beside whom there is no other superuser.
    assert (
        tcp(container, "SELECT 1 FROM pg_roles WHERE rolname = 'postgres'", user=written["USER"], db="postgres") == ""
    )


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "set POSTGRES_PASSWORD"),
        ({"POSTGRES_PASSWORD": "a", "POSTGRES_PASSWORD_FILE": "/tmp/x"}, "both set"),
        ({"POSTGRES_PASSWORD_FILE": "/nowhere"}, "cannot be read"),
    ],
)
def test_a_password_that_is_not_clear_is_refused(cluster: Cluster, environment: Mapping[str, str], told: str) -> None:
    container = cluster.run(environment=environment)
    assert exit_code(container) == 1
    assert told in log(container)


def test_trust_needs_no_password(cluster: Cluster) -> None:
    container = ready(cluster.run(environment={"POSTGRES_HOST_AUTH_METHOD": "trust"}), password="")
    assert answer(container, "tail", "-n", "1", f"{PGDATA}/pg_hba.conf") == "host all all all trust"


def test_initdb_arguments_and_the_locale(cluster: Cluster) -> None:
    arguments = "--locale=C --encoding=UTF8 --data-checksums --auth-host=scram-sha-256"
    container = ready(cluster.run(environment={"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_INITDB_ARGS": arguments}))
    query = "SELECT datcollate || '|' || pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'postgres'"
    assert tcp(container, query) == "C|UTF8"
    loopback = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"]
    assert execute(container, *loopback, environment={"PGPASSWORD": "wrong"})[0] != 0


def test_pgdata_may_lie_elsewhere(cluster: Cluster) -> None:
    environment = {"POSTGRES_PASSWORD": PASSWORD, "PGDATA": f"{PGDATA}/sub"}
    container = ready(cluster.run(environment=environment))
    assert tcp(container, "SHOW data_directory") == f"{PGDATA}/sub"


@pytest.mark.parametrize("command", [["-c", "shared_buffers=17MB"], ["postgres", "-c", "shared_buffers=17MB"]])
def test_arguments_reach_the_server(cluster: Cluster, command: Sequence[str]) -> None:
    assert tcp(ready(cluster.run(command)), "SHOW shared_buffers") == "17MB"


@pytest.mark.parametrize(
    ("command", "shown"),
    [(["postgres", "--version"], "postgres (PostgreSQL) 15."), (["psql", "--version"], "psql (Postg")],
)
def test_other_commands_run_as_they_are_and_make_no_cluster(
    cluster: Cluster, command: Sequence[str], shown: str
) -> None:
    container = cluster.run(command)
    assert exit_code(container) == 0
    assert log(container).startswith(shown)


SCRIPTS = """
cd /docker-entrypoint-initdb.d
echo 'CREATE TABLE t (step text); INSERT INTO t VALUES (current_database());' > 1.sql
echo "INSERT INTO t VALUES ('gz')" | gzip > 2.sql.gz
echo "INSERT INTO t VALUES ('xz')" | xz > 3.sql.xz
echo 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "INSERT INTO t VALUES ('"'sourced'"')"' > 4.sh
cat > 5.sh <<'END'
#!/bin/sh
if pg_isready -h 127.0.0.1 -q; then reached=tcp; else reached='socket only'; fi
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "INSERT INTO t VALUES ('$reached')"
echo "work_mem = '5MB'" >> "$PGDATA/postgresql.conf"
END
chmod 755 5.sh
echo not run > 6.txt
"""


def test_init_scripts_run_in_order_over_the_socket_only(cluster: Cluster) -> None:
    """Scripts of the first start run in order, while the server is reachable over the socket only."""
    environment = {"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_USER": "owner", "POSTGRES_DB": "app"}
    container = ready(cluster.run(environment=environment, before=SCRIPTS), user="owner", db="app")
    assert tcp(container, "SELECT * FROM t", user="owner", db="app").splitlines() == [
        "app",
        "gz",
        "xz",
        "sourced",
        "socket only",
    ]
    assert tcp(container, "SHOW work_mem", user="owner", db="app") == "5MB"
    assert "ignoring /docker-entrypoint-initdb.d/6.txt" in log(container)
    container.restart(timeout=int(PATIENCE))
    ready(container, user="owner", db="app")
    assert tcp(container, "SELECT count(*) FROM t", user="owner", db="app") == "5"


def test_failed_init_script_fails_the_start_and_is_retried(cluster: Cluster) -> None:
    """A failing script fails the first start, and the next start begins again."""
    container = cluster.run(before="echo 'CREATE TABLE t (); SELECT 1/0' > /docker-entrypoint-initdb.d/1.sql")
    assert exit_code(container) != 0
    assert "division by zero" in log(container)
    again = ready(cluster.run(before="echo 'CREATE TABLE t ()' > /docker-entrypoint-initdb.d/1.sql"))
    assert "was not finished; beginning again" in log(again)


@pytest.mark.parametrize("hardened", [False, True])
def test_killed_first_start_is_never_taken_as_complete(cluster: Cluster, hardened: bool) -> None:
    """A first start that is killed half way is repeated, and a complete one is not."""
    options = HARDENED if hardened else {}
    environment = {"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "app"}
    # While initdb works, and while the server of the first boot runs its scripts.
    sleep = "echo 'SELECT pg_sleep(600)' > /docker-entrypoint-initdb.d/1.sql" if not hardened else ""
    for sign in ("creating configuration files", "running /docker-entrypoint-initdb.d" if sleep else "is ready to"):
        container = cluster.run(environment=environment, before=sleep, **options)
        wait_for(partial(_logged, container, sign), container)
        container.kill()
    container = ready(cluster.run(environment=environment, **options), db="app")
    tcp(container, "CREATE TABLE kept ()", db="app")
    container.kill()
    container = ready(cluster.run(environment=environment, **options), db="app")
    assert tcp(container, "SELECT count(*) FROM kept", db="app") == "0"


def test_a_first_boot_that_is_told_to_stop_does(cluster: Cluster) -> None:
    script = "printf '#!/bin/sh\\necho waiting; read line < /tmp/pipe' > /docker-entrypoint-initdb.d/1.sh"
    before = f"mkfifo -m 666 /tmp/pipe; {script}; chmod 755 /docker-entrypoint-initdb.d/1.sh"
    container = cluster.run(before=before, init=True)
    wait_for(lambda: "waiting" in log(container), container)
    container.kill("SIGINT")
    execute(container, "sh", "-c", "echo > /tmp/pipe")
    assert exit_code(container) == 130
    assert "database system is shut down" in log(container)
    assert "beginning again" in log(ready(cluster.run()))


def test_data_folder_with_other_files_is_rejected(cluster: Cluster) -> None:
    """A data folder with other files in it is rejected and left unchanged."""
    container = cluster.run(before=f"echo precious > {PGDATA}/file")
    assert exit_code(container) == 1
    assert "is not empty, and is no cluster either" in log(container)
    assert exit_code(cluster.run(["cat", f"{PGDATA}/file"])) == 0
