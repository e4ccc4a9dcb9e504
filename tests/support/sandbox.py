"""A project of a test's own: a copy of this one, with a name, ports and secrets that nothing else uses."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import psutil
from docker.models.containers import Container

from stockhelper_cli.engine.docker_engine import connect
from stockhelper_cli.engine.endpoints import find
from stockhelper_cli.labels import PROJECT
from stockhelper_cli.machine.images import BASES, Base
from stockhelper_cli.machine.init_env import init_env, set_value
from stockhelper_cli.machine.setup import CA_FOLDER, sync_own_roots
from tests.support import PREFIX, ROOT
from tests.support.budgets import charge_up
from tests.support.environment import FETCHING, without_settings
from tests.support.in_process import run_in_process
from tests.support.ports import free_port
from tests.support.waiting import eventually, request

if TYPE_CHECKING:
    import httpx

#: The names of this run begin so: another run, at the same time on the same engine, keeps its own.
RUN_PREFIX = f"{PREFIX}{os.getpid()}-"
#: One image for all tests of a checkout: copies of the same sources have the same digest, so it is built once. Another
#: checkout's tests, at the same time on the same engine, have one of their own.
APP_IMAGE = f"localhost/stockhelper-test-app:{hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]}"
#: The image of a newer PostgreSQL major than the stack's.
NEXT_POSTGRES = "localhost/stockhelper-postgres:17"
#: Seconds that any one command may take.
TIME_LIMIT = 300
#: Verbs that pass their streams on to a command in a container.
_PASSING_ON = frozenset({"exec", "shell", "psql"})
#: What an `up` says that changed nothing.
_UNCHANGED = ("Nothing to do", '"changed": false')
_COPIED = ("compose", "docker", "migrations", ".dockerignore", ".env.example")


@dataclass(frozen=True, slots=True)
class Result:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def plan(self) -> list[str]:
        """The planned changes of an `up --json`, as `verb noun resource`."""
        return [
            f"{action['action']} {action['kind']} {action['resource']}"
            for action in self.json["result"]["plan"]
            if action["action"] != "wait"
        ]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A copy of the project in a folder of its own."""

    root: Path
    name: str
    port: int

    @property
    def url(self) -> str:
        """Where its app answers."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of its commands: this process's, without what would reach into the project."""
        kept = without_settings(os.environ)
        # It would have each command compile all of stockhelper anew, for 0.1 s.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        return {**kept, "CI": "true", **extra}

    def command(self, *arguments: str) -> list[str]:
        """Return the words that run `stockhelper` with these arguments."""
        return [str(Path(sys.executable).with_name("stockhelper")), *arguments]

    def run(
        self,
        *arguments: str,
        cwd: Path | None = None,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
        fresh: bool = False,
    ) -> Result:
        """Run `stockhelper` to its end, in this process unless the test is about the process, or needs another one.

        A verb that passes streams on, something to read, words `within` which it runs, and a run beside others in a
        thread of its own need a fresh process; `fresh` asks for one.
        """
        result = self._run(arguments, cwd, stdin, environment or {}, within, fresh)
        said = result.out + result.err
        if "up" in arguments and "--dry-run" not in arguments and not any(text in said for text in _UNCHANGED):
            charge_up(self.name)
        return result

    def _run(
        self,
        arguments: Sequence[str],
        cwd: Path | None,
        stdin: str | None,
        environment: Mapping[str, str],
        within: Sequence[str],
        fresh: bool,
    ) -> Result:
        beside = threading.current_thread() is not threading.main_thread()
        if fresh or within or beside or stdin is not None or not _PASSING_ON.isdisjoint(arguments):
            return self.launch([*within, *self.command(*arguments)], environment, cwd=cwd, stdin=stdin or "")
        return Result(*run_in_process(arguments, cwd or self.root, self.environment(environment)))

    def launch(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        cwd: Path | None = None,
        stdin: str = "",
    ) -> Result:
        """Run a command line of a test's own making to its end."""
        done = subprocess.run(
            command,
            cwd=cwd or self.root,
            env=self.environment(environment or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `stockhelper` and return its process."""
        if "up" in arguments:
            charge_up(self.name)
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def up(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Result:
        """Run `stockhelper up --json`, which must succeed."""
        result = self.run("up", "--json", *arguments, environment=environment)
        assert result.code == 0, result.out + result.err
        return result

    def compose(
        self,
        *arguments: str,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
        seconds: float = TIME_LIMIT,
    ) -> subprocess.CompletedProcess[str]:
        """Run the real `docker compose` in it."""
        from tests.support.compose_cli import compose_command

        done = subprocess.run(
            [*compose_command(), *arguments],
            cwd=self.root,
            env=self.environment(environment or {}),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def set(self, key: str, value: str) -> None:
        """Set a key of its .env."""
        set_value(self.root / ".env", key, value)

    def get(self, path: str) -> httpx.Response:
        """Ask its app."""
        return request("GET", self.url + path)

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine says of a service's container."""
        inspected: dict[str, Any] = client().api.inspect_container(f"{self.name}-{service}-1")
        return inspected

    def psql(self, sql: str, user: str = "stockhelper") -> str:
        """Run statements in its database over the container's own socket and return the rows as `psql -At` does."""
        container = self.container("db")
        root = Path(f"/proc/{container['State']['Pid']}/root")
        try:
            here = (root / "etc" / "hostname").read_text().strip() == container["Config"]["Hostname"]
        except OSError:
            here = False
        if here:  # a tenth of the processor time of a command in the container
            return query(root / "run" / "postgresql", user, sql)
        command = ["psql", "-U", user, "-d", "stockhelper", "-XAtqc", sql]
        code, output = execute(client().containers.get(container["Id"]), *command)
        assert code == 0, output
        return output.strip()


def query(socket: Path, user: str, sql: str) -> str:
    """Run statements by the socket in a folder; return the rows as `psql -At` does."""
    from psycopg import pq

    session = {"host": socket, "user": user, "dbname": "stockhelper", "application_name": "psql"}
    connection = pq.PGconn.connect(" ".join(f"{key}={value}" for key, value in session.items()).encode())
    try:
        assert connection.status == pq.ConnStatus.OK, connection.get_error_message()
        connection.send_query(sql.encode())
        rows: list[str] = []
        while (result := connection.get_result()) is not None:
            if result.status == pq.ExecStatus.COPY_OUT:
                while (copied := connection.get_copy_data(0))[0] > 0:
                    rows.append(bytes(copied[1]).decode().removesuffix("\n"))
                continue
            assert result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK), result.get_error_message()
            for row in range(result.ntuples):
                values = [result.get_value(row, column) or b"" for column in range(result.nfields)]
                rows.append(b"|".join(values).decode())
        return "\n".join(rows).strip()
    finally:
        connection.finish()


@cache
def client() -> docker.DockerClient:
    """Return the SDK's client of the real engine; a missing engine fails the test."""
    return docker.DockerClient(base_url=find(os.environ).url)


def engine_socket() -> str:
    """Return the path of the real engine's socket."""
    return find(os.environ).url.removeprefix("unix://")


def execute(container: Container, *command: str, **options: Any) -> tuple[int, str]:
    """Run a command in a container to its end; return its exit code and what it said, on both streams."""
    # Not by the SDK, which loses output that comes along with the head of the engine's answer.
    with contextlib.closing(connect(find(os.environ))) as engine:
        done = engine.exec(str(container.id), command, **options)
    return done.exit_code, (done.stdout + done.stderr).decode()


def run_container(image: str, command: Sequence[str], *, stderr: bool = False, **options: Any) -> str:
    """Run a container to its end, which must be a good one, and return what it said.

    The SDK follows the log for that, and an engine may end a followed log before its last lines.
    """
    container = client().containers.run(image, list(command), detach=True, **options)
    try:
        code = container.wait(timeout=TIME_LIMIT)["StatusCode"]
        assert code == 0, container.logs().decode()
        return str(container.logs(stderr=stderr).decode())
    finally:
        container.remove(force=True, v=True)


def copy_sources(root: Path, parts: Iterable[str]) -> None:
    """Copy files and folders of this project, and make sure that builds trust what this machine trusts."""
    for part in parts:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / part)
    if not [*(root / CA_FOLDER).glob("host-*.crt")]:  # `setup` never ran in this checkout, or has nothing to do there
        sync_own_roots(root, None, os.environ)


@contextmanager
def sandbox(folder: Path, **settings: str) -> Iterator[Sandbox]:
    """Make a project of its own in a folder and remove all of it from the engine at the end."""
    name, port = f"{RUN_PREFIX}{uuid.uuid4().hex[:8]}", free_port()
    root = folder / "project"
    root.mkdir(parents=True)
    copy_sources(root, _COPIED)
    init_env(root)
    project = Sandbox(root, name, port)
    # What a test finds in the database is what it has put there; how old this machine's base images are is no fault.
    own = {"SCHEDULER_ENABLED": "false", "IMAGE_MAX_AGE_DAYS": "3650"}
    fetching = {key: os.environ[key] for key in FETCHING if os.environ.get(key)}
    for key, value in {**base_images(), **fetching, **own, **settings}.items():
        project.set(key, value)
    project.set("COMPOSE_PROJECT_NAME", name)
    project.set("APP_PORT", str(port))
    project.set("APP_IMAGE", settings.get("APP_IMAGE", APP_IMAGE))
    try:
        yield project
    finally:
        remove_leftovers(name)


def base_images() -> Mapping[str, str]:
    """Return the base images that this machine has, as `setup` finds or builds them."""
    return _present(base for base in BASES if not base.profile)


def monitoring_images() -> Mapping[str, str]:
    """Return the images of the profile `monitoring` that this machine has."""
    return _present(base for base in BASES if base.profile == "monitoring")


def _present(bases: Iterable[Base]) -> Mapping[str, str]:
    chosen = {}
    for base in bases:
        names = (base.default, base.stand_in.reference)
        present = [name for name in names if client().api.images(name)]
        assert present, f"neither {names[0]} nor {names[1]} is there: run `make test`, which sees to it"
        chosen[base.key] = present[0]
    return chosen


def resources(prefix: str) -> list[Any]:
    """Return every container, network and volume of projects whose name begins like this, in order of removal."""
    engine = client()
    found = [
        *engine.containers.list(all=True, filters={"label": PROJECT}, ignore_removed=True),
        *engine.networks.list(filters={"label": PROJECT}),
        *engine.volumes.list(filters={"label": PROJECT}),
    ]
    return [resource for resource in found if _project_of(resource).startswith(prefix)]


def names_of(prefix: str) -> list[str]:
    """Return the names of every container, network and volume of projects whose name begins like this, sorted."""
    return sorted(resource.name for resource in resources(prefix))


def remove_leftovers(prefix: str) -> None:
    """Remove every container, network and volume of projects whose name begins like this."""
    # Until there is nothing: the engine may still be at work on what a command asked of it that was killed.
    eventually(lambda: _nothing_left(prefix))


def _nothing_left(prefix: str) -> bool:
    """Remove what can be removed now, and return whether there was nothing."""
    found = resources(prefix)
    for resource in found:
        try:
            if isinstance(resource, Container):
                _remove_container(resource)
            else:
                resource.remove()
        except docker.errors.APIError as error:
            # It has gone, or is about to, or is used by what is about to (of a network an engine says 403 then).
            if error.status_code not in (403, 404, 409):
                raise
    return not found


def _remove_container(container: Container) -> None:
    """Remove a container and its anonymous volumes, also those that it mounts by name, since it was recreated."""
    container.remove(force=True, v=True)
    for mount in container.attrs["Mounts"]:
        if re.fullmatch("[0-9a-f]{64}", mount.get("Name", "")):
            with contextlib.suppress(docker.errors.NotFound):
                client().volumes.get(mount["Name"]).remove()


def remove_orphaned_leftovers() -> None:
    """Remove what runs have left behind that were killed."""
    with alone():
        for project in {_project_of(resource) for resource in resources(PREFIX)}:
            if has_ended(project.removeprefix(PREFIX)):
                remove_leftovers(project)


def has_ended(name: str) -> bool:
    """Return whether the run of the tests is over that gave this name (`NUMBER-…`)."""
    run = name.partition("-")[0]
    return not (run.isdecimal() and psutil.pid_exists(int(run)))


@contextmanager
def alone() -> Iterator[None]:
    """Let no other process of tests be in such a block: what one sweeps away, others must not stumble over."""
    folder = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _project_of(resource: Any) -> str:
    labels: Mapping[str, str] = resource.labels if isinstance(resource, Container) else resource.attrs.get("Labels")
    return (labels or {}).get(PROJECT, "")


def remove_test_image() -> None:
    """Take away the image of the tests' app; its layers stay, as the builder's cache."""
    with contextlib.suppress(docker.errors.APIError):  # it is not there, or another run of the tests uses it
        client().images.remove(APP_IMAGE, noprune=True)


def interrupt(process: subprocess.Popen[str], number: signal.Signals) -> Result:
    """Send a signal and return what the process gave."""
    process.send_signal(number)
    out, err = process.communicate(timeout=TIME_LIMIT)
    return Result(process.returncode, out, err)


def environments(inspected: Sequence[str]) -> dict[str, str]:
    """Read a container's environment list."""
    return dict(entry.split("=", 1) for entry in inspected)
