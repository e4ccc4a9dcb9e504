"""`doctor` on services that are neither database nor app, in whatever state: they are up in a moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest

from stockhelper_cli.engine.docker_engine import DockerEngine
from stockhelper_cli.errors import EngineError
from tests.e2e.altering import altering, in_json
from tests.e2e.diagnosis import Diagnosis, diagnose, names_only, run_patiently
from tests.e2e.tunnel import tunnel
from tests.support.ports import free_port
from tests.support.sandbox import TIME_LIMIT, Sandbox, base_images, client, execute, sandbox
from tests.support.waiting import eventually

#: A service with which nothing is wrong. It has a check: without one, `up` waits to see whether it goes on running.
WELL: Final = {
    "image": "${PYTHON_IMAGE}",
    "command": ["sleep", "infinity"],
    "init": True,
    "read_only": True,
    "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
    "healthcheck": {"test": ["CMD", "true"], "interval": "60s"},
}
#: `up` waits for it, and sees how it ends.
WAITED_FOR: Final = {"healthcheck": {"test": ["CMD", "false"], "interval": "60s"}}


@pytest.fixture(scope="module")
def project(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A project whose services each test chooses; its first `up` removes those that the test before has chosen."""
    with sandbox(tmp_path_factory.mktemp("services")) as made:
        yield made


def write(project: Sandbox, *, volumes: tuple[str, ...] = (), **services: dict[str, Any]) -> None:
    """Write its compose file: a service that is well, and others, with what they have besides."""
    whole = {name: {**WELL, **keys} for name, keys in {"well": {}, **services}.items()}
    tree = {"services": whole, "volumes": {name: {} for name in volumes}}
    (project.root / "compose" / "compose.yaml").write_text(json.dumps(tree))


def bring_up(project: Sandbox, *, volumes: tuple[str, ...] = (), **services: dict[str, Any]) -> None:
    """Have a service that is well, and others, with what they have besides, and none of another test."""
    write(project, volumes=volumes, **services)
    project.up("--remove-orphans")


def container(project: Sandbox, service: str) -> Any:
    return client().containers.get(f"{project.name}-{service}-1")


# --- whether they run
def test_healthy_stopped_or_removed_stack_has_no_problems(project: Sandbox) -> None:
    """Healthy services are no problem, and neither is a stack that is stopped or down."""
    bring_up(project)
    assert names_only(project).statuses("stack.running", "stack.logs", "stack.writes") == ["ok"] * 3
    assert project.run("stop").code == 0
    assert "stopped; stockhelper up" in names_only(project).told("stack.running")
    assert project.run("down").code == 0
    diagnosis = names_only(project)
    assert "down; stockhelper up" in diagnosis.told("stack.running")
    assert diagnosis.statuses("stack.exited", "stack.logs", "stack.writes", "stack.leftovers") == ["skipped"] * 4


def test_a_name_that_a_stranger_has_is_named(project: Sandbox) -> None:
    write(project)
    assert project.run("down", "--remove-orphans").code == 0
    name = f"{project.name}-well-1"
    stranger = client().containers.create(base_images()["PYTHON_IMAGE"], name=name, labels={"stockhelper.test": "1"})
    try:
        told = names_only(project, "stack.names").told("stack.names")
        assert f"the container name {name} is taken" in told
        assert f"docker rename {name}" in told
    finally:
        stranger.remove(v=True)


def test_what_does_not_run_beside_others_is_named_and_started(project: Sandbox) -> None:
    bring_up(project, idle={}, gone={}, frozen={})
    container(project, "idle").stop()
    container(project, "gone").remove(force=True, v=True)
    container(project, "frozen").pause()
    told = names_only(project, "stack.running").told("stack.running")
    for part in ("idle is stopped", "gone has no container", "frozen is paused"):
        assert part in told
    mended = diagnose(project, "--fix", "stack.running", "--yes")
    assert (mended.named, mended.fixed) == (set(), ("stack.running",))
    assert {container(project, name).status for name in ("idle", "gone", "frozen")} == {"running"}


def test_killed_container_is_reported_with_its_last_output(project: Sandbox) -> None:
    """A killed container is reported with its exit code and its last lines."""
    bring_up(project, wordy={"command": ["sh", "-c", "echo so far so good; exec sleep 600"]})
    eventually(lambda: container(project, "wordy").logs())
    container(project, "wordy").kill()
    told = names_only(project, "stack.exited").told("stack.exited")
    for part in ("exit code 137: killed", "wordy | so far so good", "stockhelper logs wordy"):
        assert part in told


def test_container_out_of_memory_is_reported_also_by_up(project: Sandbox) -> None:
    """Both `up` and `doctor` report that a container ran out of memory."""
    limits = {"mem_limit": "32m", "memswap_limit": "32m"}
    write(project, hungry={"command": ["tail", "/dev/zero"], **limits, **WAITED_FOR})

    def told_after_up() -> str:
        error = run_patiently(project, "up", "--remove-orphans", "--json").json["error"]
        assert [finding["id"] for finding in error["findings"]] == ["stack.exited"]
        return names_only(project, "stack.exited").told("stack.exited")

    # On a busy machine the engine may see the end before its reason, and never tells that one then.
    eventually(lambda: "out of memory (exit code 137)" in told_after_up())


def test_a_service_that_exits_again_and_again_is_named_by_up_too(project: Sandbox) -> None:
    command = ["sh", "-c", "echo going down; exit 3"]
    write(project, looping={"command": command, "restart": "unless-stopped", **WAITED_FOR})
    error = run_patiently(project, "up", "--remove-orphans", "--json").json["error"]
    assert [finding["id"] for finding in error["findings"]] == ["stack.restarting"]
    told = names_only(project, "stack.restarting").told("stack.restarting")
    assert "looping restarts again and again" in told
    assert "looping | going down" in told


def test_a_restart_that_helped_is_told_beside_an_ok(project: Sandbox, socket_folder: Path) -> None:
    bring_up(project, hardy={"restart": "unless-stopped"})
    os.kill(int(container(project, "hardy").attrs["State"]["Pid"]), signal.SIGKILL)
    eventually(lambda: container(project, "hardy").attrs["RestartCount"] == 1)
    eventually(lambda: container(project, "hardy").status == "running")
    started = datetime.fromisoformat(container(project, "hardy").attrs["State"]["StartedAt"])

    def diagnosis_after(seconds: int) -> Diagnosis:
        alter = in_json(lambda info: info.update(SystemTime=(started + timedelta(seconds=seconds)).isoformat()))
        with altering(socket_folder / f"{seconds}.sock", "^GET /v[0-9.]+/info$", alter) as environment:
            return diagnose(project, "--skip", "engine.clock", environment=environment)

    assert diagnosis_after(5).named == {"stack.restarting"}  # it may be the beginning of more
    diagnosis = diagnosis_after(20)
    assert not diagnosis.named
    assert "hardy was started again once since hardy was brought up" in diagnosis.told("stack.restarting")


# --- what their checks say
def test_unhealthy_service_is_reported_with_check_output(project: Sandbox) -> None:
    """An unhealthy service is reported with the output of its last health check."""
    test = "test -e /tmp/well || { echo all is lost; exit 1; }"
    write(project, ill={"healthcheck": {"test": ["CMD-SHELL", test], "interval": "100ms", "retries": 1}})
    project.run("up", "--remove-orphans", "--timeout", "1")
    eventually(lambda: container(project, "ill").attrs["State"]["Health"]["Status"] == "unhealthy")
    told = names_only(project, "stack.health").told("stack.health")
    assert "ill is unhealthy\nits last check said: all is lost" in told


def test_service_with_unstable_health_is_a_warning(project: Sandbox) -> None:
    """A service that is healthy only now and then is a warning."""
    # Each check undoes what the one before did.
    test = "if test -e /tmp/well; then rm /tmp/well; exit 1; else touch /tmp/well; fi"
    check = {"test": ["CMD-SHELL", test], "interval": "100ms", "retries": 3}

    def codes() -> list[int]:
        return [each["ExitCode"] for each in container(project, "flapping").attrs["State"]["Health"]["Log"]]

    bring_up(project, flapping={"healthcheck": check, "tmpfs": ["/tmp"]})
    # That `up` asked as well was of influence on the first of them.
    eventually(lambda: codes() in ([0, 1, 0, 1, 0], [1, 0, 1, 0, 1]))
    diagnosis = names_only(project, "stack.flapping")
    assert (diagnosis.code, diagnosis.statuses("stack.flapping", "stack.health")) == (0, ["warning", "ok"])
    assert "flapping is healthy only now and then: " in diagnosis.told("stack.flapping")
    assert "of its last 5 checks failed" in diagnosis.told("stack.flapping")


# --- what they write
def test_a_log_that_nothing_bounds_is_warned_of_with_its_size(project: Sandbox) -> None:
    talking = "head -c 3000000 /dev/zero | tr '\\0' x | fold -w 1000; exec sleep 600"
    unbound = {"logging": {"driver": "json-file"}, "command": ["sh", "-c", talking]}
    bring_up(project, wordy=unbound, brief={"logging": {"driver": "local"}})
    eventually(lambda: len(container(project, "wordy").logs(tail=3500)) >= 3_000_000)
    diagnosis = names_only(project, "stack.logs")
    assert (diagnosis.code, diagnosis.statuses("stack.logs")) == (0, ["warning"])
    assert "the log of wordy grows without bounds" in diagnosis.told("stack.logs")
    assert "wordy: 3." in diagnosis.told("stack.logs")


def test_large_writes_outside_of_volumes_are_a_warning(project: Sandbox) -> None:
    """Data written outside of volumes is measured, and much of it is a warning."""
    bring_up(project, scribe={"read_only": False})
    assert "scribe 0 MB" in names_only(project).told("stack.writes")
    silence = EngineError("engine.timeout", "could not measure the container: the engine does not answer")
    with patch.object(DockerEngine, "written_bytes", side_effect=silence):
        assert "scribe more than can soon be measured" in names_only(project).told("stack.writes")
    assert execute(container(project, "scribe"), "truncate", "-s", "150M", "/tmp/report") == (0, "")
    diagnosis = names_only(project, "stack.writes")
    assert (diagnosis.code, diagnosis.statuses("stack.writes")) == (0, ["warning"])
    assert "scribe 157 MB" in diagnosis.told("stack.writes")
    (command,) = diagnosis.findings["stack.writes"]["remedy"]["commands"]
    assert b"A /tmp/report" in subprocess.run(command.split(), check=True, capture_output=True).stdout


def test_volume_without_write_access_is_reported_with_a_fix(project: Sandbox) -> None:
    """A volume that the service cannot write to is reported with a command that fixes it."""
    bring_up(project, barred={"user": "10001:10001", "volumes": ["reports:/reports"]}, volumes=("reports",))
    diagnosis = names_only(project, "stack.volumes")
    told = diagnosis.told("stack.volumes")
    assert "barred cannot write to /reports" in told
    assert "is not writable for user 10001" in told
    (command,) = diagnosis.findings["stack.volumes"]["remedy"]["commands"]
    subprocess.run(command.split(), check=True, capture_output=True)
    names_only(project)


# --- what is left of others
def test_orphan_is_mentioned_and_reported_if_in_the_way(project: Sandbox) -> None:
    """An orphan is only mentioned, until it holds a port that a service needs."""
    ports = {"ports": [f"127.0.0.1:{free_port()}:80"]}
    bring_up(project, former=ports)
    write(project)
    assert f"{project.name}-former-1 (running) belongs to no service" in names_only(project).told("stack.orphans")
    write(project, well=ports)
    told = names_only(project, "stack.orphans").told("stack.orphans")
    assert f"{project.name}-former-1 has port " in told
    assert "stockhelper up --remove-orphans" in told


def test_leftover_of_a_killed_up_is_a_warning_if_it_runs(project: Sandbox) -> None:
    """A leftover of a killed `up` passes with a note, becomes a warning if it runs, and can be fixed."""
    bring_up(project)
    write(project, well={"environment": {"CHANGED": "1"}})
    former = container(project, "well")
    with tunnel() as way:
        # It makes another one, stops this one, starts that, and would then remove this.
        process = project.start("up", environment=way.environment)
        way.on_request(3, process.kill)
        process.communicate(timeout=TIME_LIMIT)
    told = names_only(project).told("stack.leftovers")
    assert "is left of a change that was broken off; the next up finishes it" in told
    former.start()
    diagnosis = names_only(project, "stack.leftovers")
    assert (diagnosis.code, diagnosis.statuses("stack.leftovers")) == (0, ["warning"])
    assert "well runs 2 times" in diagnosis.told("stack.leftovers")
    mended = diagnose(project, "--fix", "stack.leftovers", "--yes")
    assert (mended.named, mended.fixed) == (set(), ("stack.leftovers",))
    assert container(project, "well").id != former.id
