"""What a stack that is up gives away to nobody, as the engine tells it and as the containers themselves find out."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

import psutil
import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from tests.e2e.steps import command_lines
from tests.support.sandbox import Sandbox, client, environments, execute
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

SERVICES = ("db", "migrate", "app")
RUNNING = ("db", "app")


def inside(project: Sandbox, service: str, command: str, **environment: str) -> tuple[int, str]:
    """Run a shell command in a service's container and return its exit code and output."""
    container = client().containers.get(f"{project.name}-{service}-1")
    code, output = execute(container, "sh", "-c", command, environment=environment)
    return code, output.strip()


def secrets(project: Sandbox) -> Mapping[str, str]:
    """Return the passwords that its .env holds."""
    found = {key: value for key, value in load_dotenv(project.root / ".env").items() if key.endswith("PASSWORD")}
    assert len(found) == 2
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_may_do_more_than_it_needs(stack: Sandbox, service: str) -> None:
    host = stack.container(service)["HostConfig"]

    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["Privileged"] is False
    assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
    assert host["Init"] is True
    assert host["ReadonlyRootfs"] is True
    assert not host["Binds"] or not any("docker.sock" in bind for bind in host["Binds"])


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_limits(stack: Sandbox, service: str) -> None:
    host = stack.container(service)["HostConfig"]

    assert host["PidsLimit"] == 200
    assert host["Memory"] == (1 << 30 if service == "db" else 512 << 20)
    assert host["MemorySwap"] == host["Memory"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


@pytest.mark.parametrize(("service", "seconds"), [("db", 120), ("app", 35)])
def test_a_service_has_the_time_to_stop_that_its_work_may_need(stack: Sandbox, service: str, seconds: int) -> None:
    config = stack.container(service)["Config"]

    assert config["StopTimeout"] == seconds
    assert config.get("StopSignal", "SIGTERM") == ("SIGINT" if service == "db" else "SIGTERM")
    assert stack.container(service)["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_the_services_run_as_users_of_their_own(stack: Sandbox) -> None:
    assert stack.container("app")["Config"]["User"] == "10001:10001"
    assert stack.container("migrate")["Config"]["User"] == "10001:10001"
    assert inside(stack, "app", "id -u") == (0, "10001")
    assert inside(stack, "db", "id -un") == (0, "postgres")


@pytest.mark.parametrize("service", RUNNING)
def test_service_processes_have_no_root_and_no_capability(stack: Sandbox, service: str) -> None:
    """No process of a service is root, has a capability or can get one."""
    fields = "Uid|CapEff|CapPrm|CapBnd|NoNewPrivs"

    def is_harmless(name: str, *values: str) -> bool:
        match name:
            case "Uid:":
                return "0" not in values
            case "NoNewPrivs:":
                return values == ("1",)
            case _:
                return int(values[0], 16) == 0

    def is_well() -> bool:
        code, output = inside(stack, service, f"grep -hE '^({fields}):' /proc/[0-9]*/status")
        assert code in (0, 2)  # 2: a process ended while it was looked at
        lines = [line.split() for line in output.splitlines() if not line.startswith("grep")]
        assert len(lines) >= 2 * 5
        return all(is_harmless(*line) for line in lines)

    # The engine's own, which begins a health check in there, is root until it becomes that check.
    eventually(is_well)


@pytest.mark.parametrize("service", RUNNING)
def test_the_root_file_system_cannot_be_written_and_tmp_can(stack: Sandbox, service: str) -> None:
    for path in ("/written", "/etc/written", "/usr/bin/written", "$HOME/written"):
        assert inside(stack, service, f"touch {path}")[0] != 0, path
    assert inside(stack, service, "touch /tmp/written && rm /tmp/written") == (0, "")


def test_the_database_publishes_nothing(stack: Sandbox) -> None:
    raw = stack.container("db")

    assert not raw["HostConfig"]["PortBindings"]
    assert not any(raw["NetworkSettings"]["Ports"].values())


def test_the_app_can_be_reached_from_this_machine_only(stack: Sandbox) -> None:
    bindings = stack.container("app")["NetworkSettings"]["Ports"]
    assert bindings == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}]}

    addresses = {
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and not entry.address.startswith("127.")
    }
    for address in addresses:
        with socket.socket() as caller:
            caller.settimeout(5)
            assert caller.connect_ex((address, stack.port)) != 0, address


def test_the_owners_password_is_in_no_variable_of_the_app(stack: Sandbox) -> None:
    environment = environments(stack.container("app")["Config"]["Env"])
    owners, apps = secrets(stack)["POSTGRES_PASSWORD"], secrets(stack)["APP_DB_PASSWORD"]

    assert [key for key, value in environment.items() if owners in value] == []
    assert environment["POSTGRES_PASSWORD"] == apps
    assert environment["POSTGRES_USER"] == "stockhelper_app"
    assert owners not in inside(stack, "app", "cat /proc/1/environ")[1]


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_is_in_a_label_or_an_argument_of_a_container(stack: Sandbox, service: str) -> None:
    raw = stack.container(service)
    said = json.dumps([raw["Path"], raw["Args"], raw["HostConfig"], {**raw["Config"], "Env": []}])

    for key, secret in secrets(stack).items():
        assert secret not in said, key


@pytest.mark.parametrize("service", RUNNING)
def test_no_secret_is_in_the_arguments_of_a_process_or_in_a_log(stack: Sandbox, service: str) -> None:
    container = client().containers.get(f"{stack.name}-{service}-1")
    arguments = command_lines(container)
    assert {"db": "postgres", "app": "uvicorn"}[service] in arguments
    said = arguments + container.logs().decode()

    for key, secret in secrets(stack).items():
        assert secret not in said, key


def test_image_history_and_config_contain_no_secret(stack: Sandbox) -> None:
    image = client().images.get(stack.container("app")["Config"]["Image"])
    said = json.dumps([image.history(), image.attrs])

    for key, secret in secrets(stack).items():
        assert secret not in said, key


def test_no_secret_is_in_what_stockhelper_says(stack: Sandbox) -> None:
    said = ""
    for arguments in (["up"], ["up", "--json"], ["up", "--dry-run"], ["status", "--json"], ["--verbose", "status"]):
        result = stack.run(*arguments, fresh=True)  # all that it writes, by whatever way
        said += result.out + result.err

    for key, secret in secrets(stack).items():
        assert secret not in said, key


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE own (id int)",
        "CREATE SCHEMA own",
        "ALTER TABLE stocks ADD COLUMN own int",
        "CREATE INDEX ON stocks (name)",
        "TRUNCATE stocks",
        "DROP TABLE stocks",
        "DELETE FROM alembic_version",
        "CREATE ROLE own",
        "ALTER ROLE stockhelper PASSWORD 'own'",
        "CREATE DATABASE own",
        "COPY stocks TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_the_apps_role_cannot(stack: Sandbox, statement: str) -> None:
    code, output = as_the_app(stack, statement)

    assert code != 0
    assert any(reason in output for reason in ("permission denied", "must be owner", "must be superuser")), output


def test_the_apps_role_reads_and_writes_rows(stack: Sandbox) -> None:
    code, output = as_the_app(
        stack,
        "BEGIN; INSERT INTO stocks (symbol, name, exchange) VALUES ('000001.SZ', 'Ping An', 'SZ');"
        " UPDATE stocks SET name = 'Ping An Bank'; SELECT name FROM stocks; DELETE FROM stocks; ROLLBACK",
    )

    assert (code, output) == (0, "Ping An Bank")


def as_the_app(project: Sandbox, statement: str) -> tuple[int, str]:
    """Run a statement with what the app's container knows, over the network."""
    environment: dict[str, Any] = environments(project.container("app")["Config"]["Env"])
    return inside(
        project,
        "db",
        'psql -h "$(hostname)" -XAtqc "$STATEMENT"',
        STATEMENT=statement,
        PGUSER=environment["POSTGRES_USER"],
        PGPASSWORD=environment["POSTGRES_PASSWORD"],
        PGDATABASE=environment["POSTGRES_DB"],
    )
