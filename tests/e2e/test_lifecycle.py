"""A stack through its life, by stockhelper and by the real docker compose in turn: neither notices the other."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from stockhelper_cli.labels import PROJECT
from tests.e2e.steps import Baseline, command_lines, healthy, runs
from tests.support.ports import free_port
from tests.support.refusals import explained
from tests.support.revisions import HEAD
from tests.support.sandbox import Result, Sandbox, client, interrupt, names_of, sandbox
from tests.support.template import Template
from tests.support.waiting import PATIENCE, eventually

#: A further service as people add one: with a volume without a name, following the database, under another name too.
EXTRA = """
services:
  watcher:
    image: ${PYTHON_IMAGE}
    user: nobody
    entrypoint: [sh, -c, "trap 'exit 0' TERM; echo watching $$LEVEL; while :; do sleep 600 & wait; done"]
    environment: {LEVEL: "1"}
    init: true
    volumes: [/kept]
    networks: {stock_helper_net: {aliases: [lookout]}}
    depends_on: {db: {condition: service_healthy, restart: true}}
    stop_grace_period: 60s
"""


@pytest.fixture(scope="module")
def shared(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack with a further service, up."""
    with sandbox(tmp_path_factory.mktemp("life")) as made:
        (made.root / "extra.yaml").write_text(EXTRA)
        made.set("COMPOSE_FILE", "compose/compose.yaml:extra.yaml")
        template.copy_into(made)
        made.up()
        yield made


@pytest.fixture(scope="module")
def baseline(shared: Sandbox) -> Baseline:
    """How it was when it was made."""
    return Baseline(shared)


@pytest.fixture
def life(baseline: Baseline) -> Sandbox:
    """The same, up as its files say at the start of a test."""
    baseline.restore()
    return baseline.project


def extra(project: Sandbox, old: str, new: str) -> None:
    """Change the further service's definition."""
    assert EXTRA.count(old) == 1
    (project.root / "extra.yaml").write_text(EXTRA.replace(old, new))


def causes(project: Sandbox) -> Mapping[str, str]:
    """Return service → why it would be replaced."""
    plan = project.run("up", "--dry-run", "--json").json["result"]["plan"]
    created = [action for action in plan if (action["action"], action["kind"]) == ("create", "container")]
    return {
        re.split(r"-\w+$", action["resource"].split(project.name + "-")[1])[0]: action["cause"] for action in created
    }


# --- docker compose on what stockhelper brought up, and the other way round


def test_compose_finds_all_services_running(life: Sandbox) -> None:
    """Compose finds every service running and would create none."""
    said = life.compose("--dry-run", "up", "-d").stderr
    for service in ("app", "db", "watcher"):
        assert re.search(rf"{life.name}-{service}-1 +Running", said), said
    assert "Recreate" not in said
    assert "Create" not in said


def test_every_verb_of_compose_works_on_it(life: Sandbox) -> None:
    assert {row["Service"] for row in map(json.loads, life.compose("ps", "--format", "json").stdout.splitlines())} == {
        "app", "db", "watcher",
    }  # fmt: skip
    eventually(lambda: "watching 1" in life.compose("logs", "watcher").stdout)
    assert life.compose("exec", "-T", "watcher", "echo", "hello").stdout == "hello\n"
    before = runs(life, "watcher")
    life.compose("restart", "watcher")
    assert runs(life, "watcher")["watcher"][0] == before["watcher"][0]
    life.compose("stop", "watcher")
    assert life.run("status").code == 1
    life.compose("start", "watcher")
    assert life.run("status").code == 0


def test_what_compose_recreates_is_adopted(life: Sandbox) -> None:
    life.compose("up", "-d", "--force-recreate", "--no-deps", "watcher")
    assert not life.up().plan
    assert life.run("restart", "watcher").code == 0
    eventually(lambda: "watching 1" in life.run("logs", "watcher").out)


# --- what changed is replaced, with its cause, and nothing else


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ('LEVEL: "1"', 'LEVEL: "2"', "environment (LEVEL)"),
        ("init: true", "init: true\n    healthcheck: {test: [CMD, 'true']}", "healthcheck"),
        ("init: true", "init: true\n    ports: ['127.0.0.1:0:80']", "ports"),
        ("aliases: [lookout]", "aliases: [lookout, other]", "networks"),
        ("aliases: [lookout]", "", "networks"),
        ('{LEVEL: "1"}', '{OTHER: "1"}', "environment (LEVEL, OTHER)"),
        ("/kept", "/kept, more:/more", "volumes"),
        ("user: nobody", "user: '65534'", "user"),
    ],
    ids=["environment", "health-check", "port", "alias", "no-alias", "variables", "volume", "user"],
)
def test_only_what_changed_would_be_replaced(life: Sandbox, old: str, new: str, cause: str) -> None:
    text = EXTRA + ("volumes: {more: {}}\n" if "more:" in new else "")
    (life.root / "extra.yaml").write_text(text.replace(old, new))
    told = causes(life)
    assert set(told) == {"watcher"}
    assert cause in told["watcher"]


def test_replaced_container_keeps_its_volumes_and_names(life: Sandbox) -> None:
    """A replaced container keeps its volumes and names, and the other services do not change."""
    before = runs(life, "db", "app")
    assert life.run("exec", "-u", "root", "watcher", "sh", "-c", "echo here > /kept/file").code == 0
    extra(life, 'LEVEL: "1"', 'LEVEL: "2"')
    life.up()
    assert life.run("exec", "watcher", "cat", "/kept/file").out == "here\n"
    eventually(lambda: "watching 2" in life.run("logs", "watcher").out)
    for name in ("lookout", "watcher", "db"):
        assert life.run("exec", "app", "getent", "hosts", name).code == 0, name
    assert runs(life, "db", "app") == before


def test_a_service_with_a_profile_is_there_for_who_names_it(life: Sandbox) -> None:
    extra(life, "image: ${PYTHON_IMAGE}", "image: ${PYTHON_IMAGE}\n    profiles: [tools]")
    assert life.up().plan == []
    life.run("stop", "watcher")
    life.up("watcher")
    assert life.run("exec", "watcher", "echo", "here").out == "here\n"
    assert life.run("logs", "watcher").code == 0
    assert life.run("restart", "watcher").code == 0
    explained(life.run("up", "nobody"), 2, "no such service: nobody")


def test_a_volume_with_another_definition_stays_and_is_told(life: Sandbox) -> None:
    (life.root / "extra.yaml").write_text(EXTRA + "volumes: {postgres_data: {labels: {a: b}}}\n")
    result = life.up()
    assert result.plan == []
    (warning,) = result.json["warnings"]
    assert warning.startswith("the definition of volume postgres_data changed")


def test_a_volume_that_others_made_is_used_and_told(life: Sandbox) -> None:
    volume = client().volumes.create(f"{life.name}_more", labels={PROJECT: life.name + "-other"})
    try:
        (life.root / "extra.yaml").write_text(EXTRA.replace("/kept", "/kept, more:/more") + "volumes: {more: }\n")
        (warning,) = life.up().json["warnings"]
        assert f"was made for project {life.name}-other" in warning
    finally:
        life.run("stop", "watcher")
        (life.root / "extra.yaml").write_text(EXTRA)
        life.up()
        volume.remove()


def test_an_orphan_is_named_and_removed_on_demand(life: Sandbox) -> None:
    alone = {"COMPOSE_FILE": "compose/compose.yaml"}
    volume = life.container("watcher")["Mounts"][0]["Name"]
    assert f"{life.name}-watcher-1 belongs to no service" in life.run("up", environment=alone).err
    assert life.run("up", "--remove-orphans", environment=alone).code == 0
    assert f"{life.name}-watcher-1" not in names_of(life.name)
    client().volumes.get(volume).remove()


def test_foreign_container_of_the_same_name_is_kept(life: Sandbox) -> None:
    """A foreign container with the name of a service is neither used nor removed."""
    name = f"{life.name}-watcher-1"
    client().containers.get(name).remove(force=True, v=True)
    image = client().containers.get(f"{life.name}-db-1").image
    assert image is not None
    stranger = client().containers.create(str(image.id), name=name, entrypoint=["true"])
    try:
        explained(life.run("up"), 1, f"the container name {name} is taken", "docker rename")
        assert client().containers.get(name).id == stranger.id
    finally:
        stranger.remove(v=True)


# --- the verbs


def test_restart_reports_the_downtime_and_kills_nothing(life: Sandbox) -> None:
    """`restart` reports the downtime of the app, kills no container and keeps the dependency order."""
    (life.root / "extra.yaml").write_text(EXTRA + "  app: {stop_grace_period: 120s}\n")
    life.up()
    result = life.run("restart", "--json")
    assert result.code == 0
    # The aim is 2 s on a machine that has nothing else to do. To kill the app or the database takes 120 s alone.
    assert 0 < result.json["result"]["gap_seconds"] < 120
    order = [f"{action['action']} {action['resource'].split('-')[-2]}" for action in result.json["result"]["plan"]
             if action["kind"] == "container"]  # fmt: skip
    assert order.index("stop app") < order.index("stop db") < order.index("start db") < order.index("start app")


def test_stop_ends_containers_gracefully_and_start_runs_them(life: Sandbox) -> None:
    """`stop` ends every container gracefully, and `start` starts them again."""
    assert life.run("stop").code == 0
    for service in ("app", "db", "watcher"):
        state = life.container(service)["State"]
        assert (state["Status"], state["ExitCode"] == 137) == ("exited", False), service
    assert life.run("start").code == 0
    assert healthy(life)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_has_seen_enough_of_a_log_is_told_nothing(life: Sandbox, number: signal.Signals, code: int) -> None:
    process = life.start("logs", "-f", "--tail", "1", "watcher")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("watcher-1 | ")
    assert interrupt(process, number) == Result(code, "", "")


def test_logs_show_the_last_lines_of_those_who_are_named(life: Sandbox) -> None:
    eventually(lambda: life.run("logs", "watcher").out)
    lines = life.run("logs", "--tail", "1", "db", "watcher").out.splitlines()
    assert sorted(line.partition(" ")[0] for line in lines) == ["db-1", "watcher-1"]
    assert life.run("logs", "--since", "1ns", "watcher").out == ""


def test_exec_passes_the_streams_and_the_exit_code(life: Sandbox) -> None:
    """A command in a container gets stdin and returns its output and its exit code."""
    result = life.run("exec", "watcher", "--", "sh", "-c", "cat; echo oops >&2; exit 7", stdin="from here\n")
    assert (result.code, result.out, result.err) == (7, "from here\n", "oops\n")
    assert life.run("psql", "-Atc", "select 6 * 7").out == "42\n"
    assert life.run("psql", "-At", stdin="select current_user;\n").out == "stockhelper\n"


def test_a_shell_on_a_terminal_has_its_size_and_gets_its_ctrl_c(life: Sandbox) -> None:
    terminal, theirs = pty.openpty()
    # A program of its own makes it the terminal of the command: a fork is for a process without threads.
    process = subprocess.Popen(
        ["setsid", "--ctty", *life.command("shell", "watcher")],
        cwd=life.root,
        env=life.environment({}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = bytearray()

    def hear() -> bytes:
        if select.select([terminal], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # the terminal is closed: that is its end
                said.extend(os.read(terminal, 65536))
        return bytes(said)

    def wait_for(text: bytes) -> None:
        eventually(lambda: text in hear())
        del said[: said.index(text) + len(text)]  # what follows is waited for in what comes after it

    wait_for(b"$ ")
    # noflsh: with an interruption the terminal would throw away what it was about to show, maybe the prompt after it.
    os.write(terminal, b"stty rows 33 cols 77 noflsh; stty size; echo ready\n")
    wait_for(b"33 77")
    wait_for(b"$ ")
    os.write(terminal, b"echo sl''ept; sleep 654\n")
    wait_for(b"slept")
    # A shell that is interrupted while it begins a command may be left without its terminal.
    watcher = client().containers.get(f"{life.name}-watcher-1")
    eventually(lambda: "sleep 654" in command_lines(watcher))
    os.write(terminal, b"\x03")
    wait_for(b"$ ")
    os.write(terminal, b"echo a''live; exit 9\n")
    wait_for(b"alive")
    assert process.wait(PATIENCE) == 9
    os.close(terminal)


def save_and_load(project: Sandbox, file: Path, inside: bytes) -> None:
    """Save a project's images to a file and load them, and then refuse the file with a bit flipped, or cut off.

    `inside` begins somewhere within an image.
    """
    saved = project.run("images", "save", str(file), "--json").json["result"]["images"]
    assert project.run("images", "load", str(file), "--json").json["result"]["images"] == saved
    whole = file.read_bytes()
    middle = whole.index(inside) + 4096
    file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    explained(project.run("images", "load", str(file)), 4, "is not a whole archive", "checksum")
    file.write_bytes(whole[: len(whole) // 2])
    explained(project.run("images", "load", str(file)), 4, "is not a whole archive")


def test_saved_images_are_loaded_but_damaged_files_are_not(project: Sandbox, tmp_path: Path) -> None:
    """Images are saved to one file and loaded from it, and a damaged file is rejected; two small images do."""
    content = os.urandom(100_000)
    (tmp_path / "content").write_bytes(content)
    names = [f"localhost/{project.name}-{name}" for name in ("service", "base")]
    for name in names:
        with tarfile.open(tmp_path / "layer", "w") as layer:
            layer.add(tmp_path / "content", name)
        client().api.import_image(str(tmp_path / "layer"), name, "1")
    try:
        (project.root / "compose" / "compose.yaml").write_text(f"services: {{one: {{image: '{names[0]}:1'}}}}\n")
        project.set("PYTHON_IMAGE", f"{names[1]}:1")
        save_and_load(project, tmp_path / "images.tar", content[:64])
    finally:
        for name in names:
            client().images.remove(f"{name}:1")


@pytest.mark.slow
def test_images_of_the_stack_are_saved_and_loaded(life: Sandbox, tmp_path: Path) -> None:
    save_and_load(life, tmp_path / "images.tar", b"\x7fELF")


def test_config_is_what_compose_takes_it_for_and_hides_secrets(life: Sandbox) -> None:
    shown = life.run("config", "--json", "--show-secrets").json["result"]
    theirs: Any = json.loads(life.compose("config", "--format", "json").stdout)
    assert shown == theirs
    secret = shown["services"]["db"]["environment"]["POSTGRES_PASSWORD"]
    assert secret not in life.run("config").out + life.run("config", "--json").out


@pytest.mark.parametrize(
    ("words", "found"),
    [("resta", ["restart"]), ("restart w", ["watcher"]), ("-f compose/compose.yaml logs ", ["app", "db", "migrate"])],
)
def test_completion_completes_in_a_real_bash(life: Sandbox, tmp_path: Path, words: str, found: list[str]) -> None:
    command = tmp_path / "stockhelper"
    command.write_text(f'#!/bin/sh\nexec {" ".join(life.command())} "$@"\n')
    command.chmod(0o755)
    *before, last = f"stockhelper {words}".split(" ")
    script = f"""
        eval "$(stockhelper completion bash)"
        COMP_WORDS=({" ".join(before)} "{last}") COMP_CWORD={len(before)}
        $(complete -p stockhelper | sed 's/.*-F \\([^ ]*\\).*/\\1/') stockhelper
        echo "${{COMPREPLY[@]}}"
    """
    environment = {**life.environment({}), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=life.root, capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == found


def test_dev_edit_is_live_and_plain_up_reports_the_changes(project: Sandbox, template: Template) -> None:
    """In development an edited file is live, and the plan of a plain `up` says what it changes back."""
    project.set("DB_PORT", str(free_port()))
    template.copy_into(project)
    project.up("--dev")
    assert project.container("db")["NetworkSettings"]["Ports"]["5432/tcp"][0]["HostIp"] == "127.0.0.1"
    routes = project.root / "docker" / "app" / "stockhelper_app" / "routes.py"
    text = routes.read_text()
    assert '"connected"' in text
    routes.write_text(text.replace('"connected"', '"edited"'))
    edits = [time.monotonic()]

    def is_live() -> bool:
        if time.monotonic() - edits[-1] > 10:  # what was edited before uvicorn first looked at it is nothing new to it
            routes.touch()
            edits.append(time.monotonic())
        try:
            return bool(project.get("/api/v1/health").json()["database"] == "edited")
        except httpx.TransportError:  # it is being loaded
            return False

    eventually(is_live)
    routes.write_text(text)
    told = causes(project)
    assert told == {
        "app": "configuration changed: volumes",
        "db": "configuration changed: ports",
    }


def test_migrate_asks_and_answers_through_the_image(life: Sandbox) -> None:
    assert life.run("migrate", "current").out.strip() == f"{HEAD} (head)"
    assert life.run("migrate", "check").code == 0
    life.psql("update alembic_version set version_num = 'beef'; comment on table alembic_version is null")
    try:
        explained(life.run("migrate"), 6, "at revision beef, which this code does not have")
    finally:
        life.psql(f"update alembic_version set version_num = '{HEAD}'")
    assert not [name for name in names_of(life.name) if "-run-" in name]


def test_the_same_project_from_another_folder_has_the_same_lock(life: Sandbox, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(life.root, twin)
    (life.root / "extra.yaml").write_text(
        EXTRA.replace("init: true", "init: true\n    healthcheck: {test: [CMD, 'false']}")
    )
    holder = life.start("up", "--timeout", "280")
    try:
        eventually(lambda: any(f"_{life.name}-watcher" in name for name in names_of(life.name)))
        result = life.run("stop", cwd=twin, fresh=True)
        explained(result, 8, f"pid {holder.pid}")
        assert life.run("status", cwd=twin).code in (0, 1)
    finally:
        interrupt(holder, signal.SIGINT)


# --- what recreates a part or all of the stack; the last two take it as the test before left it


def test_dependent_restarts_after_its_service_is_replaced(life: Sandbox) -> None:
    """A service that depends on a replaced one with `restart: true` restarts after it."""
    before = runs(life, "watcher", "app")
    (life.root / "extra.yaml").write_text(EXTRA + "  db: {pids_limit: 190}\n")
    life.up()
    after = runs(life, "watcher", "app")
    assert after["app"] == before["app"]
    assert after["watcher"][0] == before["watcher"][0]
    assert after["watcher"][1] != before["watcher"][1]
    assert eventually(lambda: healthy(life))


def test_changed_network_is_recreated_and_rejoined(shared: Sandbox) -> None:
    """A changed network is recreated, and every service is reachable in it again."""
    network = client().networks.get(f"{shared.name}_stock_helper_net").id
    assert shared.run("exec", "-u", "root", "watcher", "sh", "-c", "echo here > /kept/file").code == 0
    (shared.root / "extra.yaml").write_text(EXTRA + "networks: {stock_helper_net: {labels: {level: '2'}}}\n")
    result = shared.up()
    assert f"remove network {shared.name}_stock_helper_net" in result.plan
    assert client().networks.get(f"{shared.name}_stock_helper_net").id != network
    for name in ("lookout", "db", f"{shared.name}-app-1"):
        assert shared.run("exec", "app", "getent", "hosts", name).code == 0, name
    assert shared.run("exec", "watcher", "cat", "/kept/file").out == "here\n"
    assert healthy(shared)
    assert not shared.up().plan


@pytest.mark.long("follows an app that is replaced, the restart of the whole stack, and its end")
def test_followed_logs_survive_restarts_and_end_with_down(shared: Sandbox) -> None:
    """Followed logs continue after a restart of a service and end when the stack is removed.

    The last test here: it leaves nothing up. The database was started moments ago, and no checkpoint of it is due.
    """
    lines: list[str] = []

    def told(service: str, text: str) -> int:
        return sum(json.loads(line)["result"]["service"] == service and text in line for line in list(lines))

    with shared.start("logs", "-f", "--json", "--tail", "1", "app", "db") as process:
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
        reader.start()
        # Whose last line it has shown, that one it follows.
        eventually(lambda: told("app", "") and told("db", ""))
        lines.clear()
        shared.set("LOG_LEVEL", "info")
        shared.up()  # replaces the app; the database has nothing to say to that
        eventually(lambda: told("app", "Application startup complete"))
        assert {json.loads(line)["result"]["service"] for line in lines} == {"app"}
        assert shared.run("restart").code == 0
        eventually(lambda: told("app", "Application startup complete") == 2 and told("db", "ready to accept") == 1)
        assert told("db", "starting PostgreSQL") == 1
        shared.run("down", "--volumes", "--no-backup", "--yes")  # the watcher's volume has no name to find it by
        assert process.wait(timeout=PATIENCE) == 0
        reader.join()
