"""Bad settings, compose files and arguments are refused with one clear line, before anything is changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.calling import TIME_LIMIT, Project
from tests.cli.conftest import Answer, World
from tests.support.refusals import explained, without_override


def refused(world: World, answer: Answer, code: int, *parts: str) -> None:
    """Check that a command failed with a code and one clear line that has these parts, and left the engine alone."""
    explained(answer, code, *parts)
    assert world.engine.calls == []


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


@pytest.mark.parametrize("port", ["0", "70000", "80a", "-1", "8000-8010"])
def test_a_port_that_is_none(world: World, port: str) -> None:
    world.set("APP_PORT", port)
    place = f".env:{line_of(world.root / '.env', 'APP_PORT=')}: APP_PORT"

    refused(world, world.run("up"), 3, place, f"'{port}'")


# --- .env


def test_no_env_file_names_the_command_that_writes_one(world: World) -> None:
    (world.root / ".env").unlink()

    refused(world, world.run("up"), 3, f"{world.root / '.env'} is not there", "next: stockhelper init")


def test_an_env_file_that_one_may_not_read(project: Project) -> None:
    (project.root / ".env").chmod(0o000)

    done = subprocess.run(
        without_override([*project.command, "up"]),
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )

    answer = Answer(done.returncode, done.stdout, done.stderr)
    explained(answer, 3, ".env: cannot be read", "Permission denied")
    assert project.calls == []


def test_an_env_file_that_is_a_folder(world: World) -> None:
    (world.root / ".env").unlink()
    (world.root / ".env").mkdir()

    refused(world, world.run("up"), 3, ".env: is a folder")


def test_an_env_file_with_an_unclosed_quote(world: World) -> None:
    line = insert(world.root / ".env", "APP_PORT=", "CORS_ORIGINS='https://example.org")

    refused(world, world.run("up"), 3, f".env:{line}: the quote that ' opens is not closed")


def test_an_env_file_that_sets_a_key_twice(world: World) -> None:
    path = world.root / ".env"
    first = insert(path, "POSTGRES_USER=", "LOG_LEVEL=INFO")
    second = len(path.read_text().splitlines()) + 1
    path.write_text(path.read_text() + "LOG_LEVEL=DEBUG\n")

    refused(world, world.run("up"), 3, f".env:{second}: LOG_LEVEL is set a second time", f"line {first}")


@pytest.mark.parametrize("key", ["POSTGRES_PASSWORD", "APP_DB_PASSWORD"])
def test_an_empty_password(world: World, key: str) -> None:
    world.set(key, "")

    refused(world, world.run("up"), 3, key, "stockhelper init")


def test_an_env_file_in_utf_16(world: World) -> None:
    text = (world.root / ".env").read_text()
    (world.root / ".env").write_bytes(text.encode("utf-16"))

    refused(world, world.run("up"), 3, ".env:1: is UTF-16")


def test_env_file_with_bom_and_crlf_is_accepted(world: World) -> None:
    """An .env file with a byte order mark and Windows line endings is accepted."""
    path = world.root / ".env"
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())

    result = world.run("up", "--dry-run")

    assert result.code == 0
    assert "start container stockhelper-app-1" in result.out


# --- the compose files


def test_compose_file_with_unknown_key_suggests_a_key(world: World) -> None:
    """An unknown key in a Compose file is reported with its line and the key that was probably meant."""
    line = insert(world.root / "compose" / "compose.yaml", "    mem_limit: ${DB_MEMORY", "    mem_limits: 1g")

    result = world.run("up")

    refused(world, result, 3, f"compose/compose.yaml:{line}: services.db.mem_limits", "did you mean mem_limit?")


def test_a_compose_file_with_a_tab(world: World) -> None:
    line = insert(world.root / "compose" / "compose.yaml", "    mem_limit: ${DB_MEMORY", "\tshm_size: 1g")

    refused(world, world.run("up"), 3, f"compose/compose.yaml:{line}: ", "tab")


def test_a_compose_file_with_a_key_twice(world: World) -> None:
    line = insert(world.root / "compose" / "compose.yaml", "    pids_limit: ${DB_PIDS", "    pids_limit: 5")

    refused(world, world.run("up"), 3, f"compose/compose.yaml:{line + 1}: ", "pids_limit")


@pytest.mark.parametrize("value", ["1x", "-1g", "much"])
def test_a_compose_file_with_a_value_that_is_none(world: World, value: str) -> None:
    world.set("DB_MEMORY", value)

    refused(world, world.run("up"), 3, "compose/compose.yaml:", "services.db.mem", value)


def test_a_service_that_would_get_the_engines_socket(world: World) -> None:
    socket_mount = "    volumes: [/var/run/docker.sock:/var/run/docker.sock]"
    line = insert(world.root / "compose" / "compose.yaml", "    tmpfs: [", socket_mount)
    text = (world.root / "compose" / "compose.yaml").read_text()
    (world.root / "compose" / "compose.yaml").write_text(text.replace('    volumes: ["postgres_data', '    x-was: ["a'))

    refused(world, world.run("up"), 3, f"compose/compose.yaml:{line}: ", "socket")


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
def test_arguments_that_make_no_sense(world: World, arguments: list[str], parts: list[str]) -> None:
    result = world.run(*arguments)

    assert result.code in (2, 3)
    refused(world, result, result.code, *parts)
