"""`doctor --report`: what it brings along, and that none of the secrets do which were put wherever one can be."""

from __future__ import annotations

import base64
import json
import re
import stat
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.diagnosis import run_patiently
from tests.support.refusals import explained
from tests.support.sandbox import RUN_PREFIX, Result, Sandbox, client, sandbox
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

#: Where it was put -> what was put there.
CANARIES = {
    "owner's password": "canary'ow/n@er\"$x",
    "app's password": "canary-apps-password",
    "token of .env": "canary-token-of-dotenv-0123",
    "token of .env before": "canary-token-of-before-0123",
    "shell": "canary of the shell",
    "URL": "canary/in&url",
    "command": "canary-of-the-command",
    "label": "canary-of-the-label",
    "file": "canary-of-the-file",
    "log": "canary-of-the-log-0123456789",
}
#: Says what it knows, as programs do: as it is, in a URL, in JSON, in a header.
SCRIPT = r"""
echo "file $(cat /run/secrets/key)"; echo "old $API_TOKEN"; echo "$FEED_URL"; echo "told $2"
printf 'basic %s\n' "$(printf 'someone:%s' "$OWNER_PASSWORD" | base64 -w0)"
printf '{"request": {"Authorization": "Bearer canary-of-the-log-0123456789"}}\n'
echo all said; exec sleep infinity
"""


def overridden(root: Path) -> None:
    """Add a service that has all of them, and tells them."""
    (root / "key.txt").write_text(CANARIES["file"] + "\n")
    service = {
        "image": "${APP_IMAGE}",
        "entrypoint": ["sh", "-c", SCRIPT.replace("$", "$$"), "sh"],
        "command": ["--password", CANARIES["command"]],
        "environment": {
            "API_TOKEN": "${API_TOKEN}",
            "OWNER_PASSWORD": "${POSTGRES_PASSWORD}",
            "FEED_URL": f"https://me:{quote(CANARIES['URL'], safe='')}@feed.invalid/x",
        },
        "labels": {"org.example.token": CANARIES["label"], "org.example.note": "for ${SHELL_SECRET}"},
        "secrets": ["key"],
        "stop_grace_period": "1s",
        "healthcheck": {"disable": True},
    }
    tree = {"services": {"teller": service}, "secrets": {"key": {"file": "../key.txt"}}}
    (root / "compose" / "teller.yaml").write_text(json.dumps(tree))


@pytest.fixture(scope="module")
def teller(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack with a canary wherever a secret can be; that of the token was changed since it is up."""
    with sandbox(
        tmp_path_factory.mktemp("teller"),
        POSTGRES_PASSWORD=CANARIES["owner's password"],
        APP_DB_PASSWORD=CANARIES["app's password"],
        API_TOKEN=CANARIES["token of .env before"],
        COMPOSE_FILE="compose/compose.yaml:compose/teller.yaml",
    ) as project:
        overridden(project.root)
        project.up(environment=SHELL)
        project.set("API_TOKEN", CANARIES["token of .env"])
        log = client().containers.get(f"{project.name}-teller-1").logs
        eventually(lambda: b"all said" in log())
        said = set(re.split(rb"[ @:\n\"]", log()))  # else their absence would show nothing
        for where in ("file", "URL", "command", "log", "token of .env before"):
            assert said & {CANARIES[where].encode(), quote(CANARIES[where], safe="").encode()}, where
        yield project


SHELL = {"SHELL_SECRET": CANARIES["shell"]}


def report(project: Sandbox, file: Path, **environment: str) -> tuple[Any, Mapping[str, str]]:
    """Write a report, and return its result and its members."""
    result = run_patiently(project, "doctor", "--report", str(file), "--json", environment={**SHELL, **environment})
    assert result.code == 0, result.out + result.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as archive:
        members = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive}
        read = {name: content.read().decode() for name, content in members.items() if content}
    leaks_nothing(read)
    assert set(result.json["result"]["report"]["members"]) == set(read)
    return result.json["result"]["report"], read


def leaks_nothing(members: Mapping[str, str]) -> None:
    """Search for every canary, as it is and as it is written in URLs, JSON and base64."""
    for where, canary in CANARIES.items():
        forms = {canary, quote(canary), quote(canary, safe=""), json.dumps(canary)[1:-1], canary.replace("$", "$$")}
        raw = canary.encode()
        # Whole groups of three bytes, wherever they begin.
        forms |= {base64.b64encode(raw[skip : skip + (len(raw) - skip) // 3 * 3]).decode() for skip in range(3)}
        for name, content in members.items():
            assert not [form for form in forms if form in content], (where, name)


def test_a_report_tells_how_the_stack_is_and_no_secret(teller: Sandbox, tmp_path: Path) -> None:
    told, members = report(teller, tmp_path / "report.tar.gz")

    assert told["missing"] == []
    findings = {finding["id"]: finding for finding in json.loads(members["findings.json"])["findings"]}
    assert findings["db.answers"]["status"] == "ok"
    config = json.loads(members["config.json"])
    assert set(config["services"]) == {"db", "migrate", "app", "teller"}
    assert config["services"]["teller"]["environment"]["API_TOKEN"] == "********"
    inspected = json.loads(members[f"containers/{teller.name}-teller-1.json"])
    assert inspected["labels"]["com.docker.compose.service"] == "teller"
    assert inspected["labels"]["com.docker.compose.config-hash"] == "********"
    assert "all said" in members[f"logs/{teller.name}-teller-1.txt"]
    assert "database system is ready" in members[f"logs/{teller.name}-db-1.txt"]
    assert json.loads(members["engine.json"])["version"]
    assert json.loads(members["resources.json"])["volumes"]
    assert "teller" in members["plan.txt"]  # its token was changed
    assert "look through it" in members["README.txt"]


def test_a_report_is_written_of_what_can_be_read(teller: Sandbox, tmp_path: Path) -> None:
    dotenv = teller.root / ".env"
    before = dotenv.read_text()
    dotenv.write_text(before + "\nthis is no assignment\n")
    try:
        told, members = report(teller, tmp_path / "broken.tar.gz")
    finally:
        dotenv.write_text(before)
    assert any("config.json: " in line and ".env" in line for line in told["missing"])
    assert "all said" in members[f"logs/{teller.name}-teller-1.txt"]  # found by the folder they were made of
    assert "missing: config.json" in members["README.txt"]

    told, members = report(teller, tmp_path / "no-engine.tar.gz", DOCKER_HOST=f"unix://{tmp_path}/nobody")
    assert any(line.startswith("engine.json: ") for line in told["missing"])
    assert set(json.loads(members["config.json"])["services"]) == {"db", "migrate", "app", "teller"}


def test_a_report_without_a_project_tells_of_the_engine(tmp_path: Path, teller: Sandbox) -> None:
    result = teller.run("-C", str(tmp_path), "doctor", "--report", "here.tgz", cwd=tmp_path)
    assert result.code == 0, result.err
    assert "wrote" in result.out
    with tarfile.open(tmp_path / "here.tgz") as archive:
        assert {"here/engine.json", "here/findings.txt", "here/versions.json"} <= set(archive.getnames())


def test_a_report_overwrites_nothing_and_leaves_no_half_of_it(teller: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    explained(teller.run("doctor", "--report", str(tmp_path / "there")), 2, "not overwritten", "report-")
    explained(teller.run("doctor", "--report", str(tmp_path)), 2, "folder")
    explained(teller.run("doctor", "--report", str(tmp_path / "no" / "where")), 1, "No such file")
    explained(teller.run("doctor", "--report", "x", "--only", "config"), 2, "stands alone")
    assert (tmp_path / "there").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["there"]


# --- where else a secret might be found
@contextmanager
def watched_commands() -> Iterator[set[bytes]]:
    """Collect the command lines of all processes of this machine, those in containers too, for as long as it lasts."""
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    seen.add((process / "cmdline").read_bytes())
                except OSError:  # it has ended
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.mark.long("watches all processes of the machine while every verb with a secret runs")
def test_no_command_line_holds_a_secret_that_nobody_wrote_there(teller: Sandbox) -> None:
    def done(*arguments: str) -> Result:
        result = teller.run(*arguments, environment=SHELL, fresh=True)  # its own command line counts too
        assert result.code == 0, result.err
        return result

    with watched_commands() as seen:

        def saw(word: bytes) -> bool:
            return any(word in line for line in list(seen))

        done("up")
        done("migrate", "current")
        # As often as it takes: a process can have come and gone between two looks.
        eventually(lambda: done("psql", "-c", "select pg_sleep(0.1)") and saw(b"pg_sleep"))
        eventually(lambda: done("backup", "create", "--verify") and saw(b"pg_dump"))
    lines = b"\n".join(seen).replace(b"\0", b" ").decode(errors="replace")
    for where, canary in CANARIES.items():
        if where not in ("command", "log"):  # which are in the teller's own
            assert canary not in lines, where


@pytest.mark.parametrize("service", ["db", "migrate", "app"])
def test_engine_shows_no_secret_outside_the_environment(teller: Sandbox, service: str) -> None:
    """The engine shows no secret of the stack, except in the environment of a container."""
    raw = teller.container(service)
    logs = client().containers.get(raw["Id"]).logs().decode()
    assert logs
    leaks_nothing({"inspect": json.dumps({**raw, "Config": {**raw["Config"], "Env": []}}), "log": logs})


def test_no_layer_of_an_image_holds_a_secret(teller: Sandbox) -> None:
    reference = f"localhost/{RUN_PREFIX}report:1"
    result = teller.run("build", environment={**SHELL, "APP_IMAGE": reference})
    assert result.code == 0, result.err
    image = client().images.get(reference)
    try:
        secrets = [canary.encode() for canary in CANARIES.values()]
        described = json.dumps([image.history(), image.attrs]).encode()
        rest = b""
        for chunk in image.save(named=True):
            piece = rest + chunk
            for secret in secrets:
                assert secret not in piece
                assert secret not in described
            rest = piece[-64:]
    finally:
        client().images.remove(reference, noprune=True)
