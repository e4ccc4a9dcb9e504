"""What cannot work is refused with one clear line, before anything is changed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.steps import explained, refused, runs, without_override
from tests.support.sandbox import TIME_LIMIT, Result, Sandbox, names_of

pytestmark = pytest.mark.engine


@pytest.fixture
def listener(project: Sandbox) -> Iterator[socket.socket]:
    """A listener of this process on the port that the project's app is to have."""
    with socket.create_server(("127.0.0.1", project.port)) as made:
        yield made


def run_bound_by_permissions(project: Sandbox, *arguments: str, **environment: str) -> Result:
    """Run `stockhelper` as somebody whom file permissions stop."""
    done = subprocess.run(
        without_override(project.command(*arguments)),
        cwd=project.root,
        env=project.environment(environment),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def line_of(path: Path, start: str) -> int:
    """Return the number of the line that begins like this."""
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if line.startswith(start))


def insert(path: Path, before: str, line: str) -> int:
    """Put a line before the one that begins like this and return its number."""
    number = line_of(path, before)
    lines = path.read_text().splitlines()
    lines.insert(number - 1, line)
    path.write_text("\n".join(lines) + "\n")
    return number


# --- the engine


def test_no_engine(project: Sandbox) -> None:
    result = project.run("up", environment={"DOCKER_HOST": "unix:///nonexistent/docker.sock"})

    refused(project, result, 4, "no engine answers at unix:///nonexistent/docker.sock (DOCKER_HOST)", "next:")


def test_an_engine_that_does_not_answer(project: Sandbox, socket_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(socket_folder / "engine.sock"))
        silent.listen(4)

        result = project.run("up", environment={"DOCKER_HOST": f"unix://{socket_folder}/engine.sock"})

    refused(project, result, 4, f"{socket_folder}/engine.sock (DOCKER_HOST) does not answer", "5 s")


def test_a_socket_that_one_may_not_use(project: Sandbox, socket_folder: Path) -> None:
    path = socket_folder / "engine.sock"
    with socket.socket(socket.AF_UNIX) as forbidden:
        forbidden.bind(str(path))
        forbidden.listen(4)
        path.chmod(0o000)

        result = run_bound_by_permissions(project, "up", DOCKER_HOST=f"unix://{path}")

    refused(project, result, 4, f"no permission to use the engine at unix://{path}", f"{path} is for its owner only")


# --- the port


def test_a_port_that_a_process_holds_is_named_with_the_process(project: Sandbox, listener: socket.socket) -> None:
    result = project.run("up", fresh=True)

    refused(project, result, 4, f"port {project.port} on 127.0.0.1 is taken", f"pid {os.getpid()}", "APP_PORT")


def test_port_of_a_container_is_reported_with_its_name(project: Sandbox, stack: Sandbox) -> None:
    """A port that a container holds is reported with the name of that container."""
    project.set("APP_PORT", str(stack.port))

    refused(project, project.run("up"), 4, f"port {stack.port} ", f"{stack.name}-app-1", "APP_PORT")


def test_a_port_of_its_own_is_not_taken(stack: Sandbox) -> None:
    stack.up()


@pytest.mark.parametrize("port", ["0", "70000", "80a", "-1", "8000-8010"])
def test_a_port_that_is_none(project: Sandbox, port: str) -> None:
    project.set("APP_PORT", port)
    place = f".env:{line_of(project.root / '.env', 'APP_PORT=')}: APP_PORT"

    refused(project, project.run("up"), 3, place, f"'{port}'")


# --- .env


def test_no_env_file_names_the_command_that_writes_one(project: Sandbox) -> None:
    (project.root / ".env").unlink()

    refused(project, project.run("up"), 3, f"{project.root / '.env'} is not there", "next: stockhelper init")


def test_an_env_file_that_one_may_not_read(project: Sandbox) -> None:
    (project.root / ".env").chmod(0o000)

    refused(project, run_bound_by_permissions(project, "up"), 3, ".env: cannot be read", "Permission denied")


def test_an_env_file_that_is_a_folder(project: Sandbox) -> None:
    (project.root / ".env").unlink()
    (project.root / ".env").mkdir()

    refused(project, project.run("up"), 3, ".env: is a folder")


def test_an_env_file_with_an_unclosed_quote(project: Sandbox) -> None:
    line = insert(project.root / ".env", "APP_PORT=", "CORS_ORIGINS='https://example.org")

    refused(project, project.run("up"), 3, f".env:{line}: the quote that ' opens is not closed")


def test_an_env_file_that_sets_a_key_twice(project: Sandbox) -> None:
    path = project.root / ".env"
    first = insert(path, "POSTGRES_USER=", "LOG_LEVEL=INFO")
    second = len(path.read_text().splitlines()) + 1
    path.write_text(path.read_text() + "LOG_LEVEL=DEBUG\n")

    refused(project, project.run("up"), 3, f".env:{second}: LOG_LEVEL is set a second time", f"line {first}")


@pytest.mark.parametrize("key", ["POSTGRES_PASSWORD", "APP_DB_PASSWORD"])
def test_an_empty_password(project: Sandbox, key: str) -> None:
    project.set(key, "")

    refused(project, project.run("up"), 3, key, "stockhelper init")


def test_an_env_file_in_utf_16(project: Sandbox) -> None:
    text = (project.root / ".env").read_text()
    (project.root / ".env").write_bytes(text.encode("utf-16"))

    refused(project, project.run("up"), 3, ".env:1: is UTF-16")


def test_env_file_with_bom_and_crlf_is_accepted(project: Sandbox) -> None:
    """An .env file with a byte order mark and Windows line endings is accepted."""
    path = project.root / ".env"
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())

    result = project.up("--dry-run")

    assert f"start container {project.name}-app-1" in result.plan


# --- the compose files


def test_compose_file_with_unknown_key_suggests_a_key(project: Sandbox) -> None:
    """An unknown key in a Compose file is reported with its line and the key that was probably meant."""
    line = insert(project.root / "compose" / "compose.yaml", "    mem_limit: ${DB_MEMORY", "    mem_limits: 1g")

    result = project.run("up")

    refused(project, result, 3, f"compose/compose.yaml:{line}: services.db.mem_limits", "did you mean mem_limit?")


def test_a_compose_file_with_a_tab(project: Sandbox) -> None:
    line = insert(project.root / "compose" / "compose.yaml", "    mem_limit: ${DB_MEMORY", "\tshm_size: 1g")

    refused(project, project.run("up"), 3, f"compose/compose.yaml:{line}: ", "tab")


def test_a_compose_file_with_a_key_twice(project: Sandbox) -> None:
    line = insert(project.root / "compose" / "compose.yaml", "    pids_limit: ${DB_PIDS", "    pids_limit: 5")

    refused(project, project.run("up"), 3, f"compose/compose.yaml:{line + 1}: ", "pids_limit")


@pytest.mark.parametrize("value", ["1x", "-1g", "much"])
def test_a_compose_file_with_a_value_that_is_none(project: Sandbox, value: str) -> None:
    project.set("DB_MEMORY", value)

    refused(project, project.run("up"), 3, "compose/compose.yaml:", "services.db.mem", value)


def test_a_service_that_would_get_the_engines_socket(project: Sandbox) -> None:
    socket_mount = "    volumes: [/var/run/docker.sock:/var/run/docker.sock]"
    line = insert(project.root / "compose" / "compose.yaml", "    tmpfs: [", socket_mount)
    text = (project.root / "compose" / "compose.yaml").read_text()
    (project.root / "compose" / "compose.yaml").write_text(
        text.replace('    volumes: ["postgres_data', '    x-was: ["a')
    )

    refused(project, project.run("up"), 3, f"compose/compose.yaml:{line}: ", "socket")


def test_no_project_here(project: Sandbox, tmp_path: Path) -> None:
    shutil.rmtree(project.root / "compose")

    refused(project, project.run("up"), 3, "compose/compose.yaml", str(project.root))


# --- the command line


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["up", "--timeout", "0"], ["--timeout"]),
        (["up", "--timeout", "nan"], ["--timeout"]),
        (["up", "--timeout", "-3"], ["--timeout"]),
        (["up", "--timeout", "soon"], ["--timeout", "number"]),
        (["up", "nothing-like-it"], ["no such service: nothing-like-it", "app, db, migrate"]),
        (["up", "--nothing-like-it"], ["--nothing-like-it"]),
        (["nothing-like-it"], ["nothing-like-it"]),
        (["-p", "../x", "up"], ["../x"]),
        (["-p", "A B", "up"], ["A B"]),
    ],
)
def test_arguments_that_make_no_sense(project: Sandbox, arguments: list[str], parts: list[str]) -> None:
    result = project.run(*arguments)

    assert result.code in (2, 3)
    refused(project, result, result.code, *parts)


def test_a_refusal_in_json_is_one_object_that_says_all(project: Sandbox) -> None:
    project.set("APP_PORT", "0")

    result = project.run("up", "--json")

    assert result.code == 3
    assert result.err == ""
    answer = result.json
    assert (answer["schema"], answer["command"], answer["ok"], answer["result"]) == (1, "up", False, None)
    assert answer["error"]["code"] == "config.value"
    assert "APP_PORT" in answer["error"]["message"]
    assert answer["error"]["next"]
    assert names_of(project.name) == []


def test_bad_input_leaves_a_stack_that_runs_alone(stack: Sandbox) -> None:
    before = runs(stack)

    explained(stack.run("up", environment={"APP_PORT": "0"}), 3, "APP_PORT", "environment")

    assert runs(stack) == before
