"""What cannot work is refused with one clear line, before anything is changed.

Here is what needs a real engine or a real port; the other bad input is in `tests/cli/test_bad_input.py`.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.steps import refused, runs
from tests.support.refusals import explained, without_override
from tests.support.sandbox import Sandbox, names_of

pytestmark = pytest.mark.engine


@pytest.fixture
def listener(project: Sandbox) -> Iterator[socket.socket]:
    """A listener of this process on the port that the project's app is to have."""
    with socket.create_server(("127.0.0.1", project.port)) as made:
        yield made


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

        result = project.launch(without_override(project.command("up")), {"DOCKER_HOST": f"unix://{path}"})

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


# --- the files


def test_no_project_here(project: Sandbox, tmp_path: Path) -> None:
    shutil.rmtree(project.root / "compose")

    refused(project, project.run("up"), 3, "compose/compose.yaml", str(project.root))


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
