"""Backups that nobody types: run as cron does, with nothing of a shell's, and copied to where the user wants them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from stockhelper_cli.schedule import CronFolder, Job, variables_of
from tests.e2e.backups import files
from tests.e2e.diagnosis import diagnose
from tests.e2e.steps import session
from tests.support.refusals import explained
from tests.support.sandbox import TIME_LIMIT, Sandbox, client, execute, sandbox
from tests.support.template import Template
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def stack(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack with a table, and a folder `away` that its backups are copied to."""
    with sandbox(tmp_path_factory.mktemp("scheduled"), BACKUP_COPY_COMMAND="cp {} away/") as made:
        (made.root / "away").mkdir()
        template.copy_into(made)
        made.up()
        made.psql("CREATE TABLE sentinels AS SELECT generate_series(1, 100) id")
        yield made


def start_as_cron(project: Sandbox, folder: Path) -> subprocess.Popen[bytes]:
    """Start what cron's entry says, in cron's environment: a shell and hardly a variable."""
    job = Job(project.name, project.root, time(3, 17), variables=variables_of(os.environ))
    place = CronFolder(folder)
    place.install(job)
    ((_, text),) = place.installed(job).items()
    entry = re.search(r"^17 3 \* \* \*  root  (.*)$", text, re.MULTILINE)
    assert entry
    environment = ["HOME=/root", "LOGNAME=root", "SHELL=/bin/sh", "PATH=/usr/bin:/bin"]
    command = entry[1].replace(r"\%", "%")
    return subprocess.Popen(["env", "-i", *environment, "/bin/sh", "-c", command], cwd="/", stdin=subprocess.DEVNULL)


def listed(project: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = project.run("backup", "list", "--json").json["result"]["backups"]
    return found


def test_scheduled_entry_waits_and_makes_a_verified_backup(stack: Sandbox, tmp_path: Path) -> None:
    """The cron entry waits for another run, then makes a verified backup and copies it."""
    away, log = stack.root / "away", stack.root / "backup.log"
    with session(stack, "BEGIN; LOCK TABLE sentinels"):
        other = stack.start("backup", "create")
        eventually(lambda: stack.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1")
        scheduled = start_as_cron(stack, tmp_path)
        eventually(log.exists)
        explained(stack.run("backup", "create", "--wait", "1", fresh=True), 8, "another run is at work")
        assert scheduled.poll() is None
    other.communicate(timeout=TIME_LIMIT)
    assert scheduled.wait(timeout=TIME_LIMIT) == 0, log.read_text()
    newest, before = listed(stack)
    assert (bool(newest["verified"]), bool(newest["copied"])) == (True, True)
    assert (bool(before["verified"]), bool(before["copied"])) == (False, False)
    copied = {path.name: path.read_bytes() for path in away.iterdir()}
    assert set(copied) == {Path(newest["file"]).name, Path(newest["file"]).with_suffix(".json").name}
    assert copied[Path(newest["file"]).name] == Path(newest["file"]).read_bytes()
    assert newest["file"] in log.read_text()
    assert "verified, copied" in stack.run("backup", "list").out


def test_a_copy_that_fails_is_told_and_made_up_for(stack: Sandbox, tmp_path: Path) -> None:
    away = tmp_path / "another place"
    command = {"BACKUP_COPY_COMMAND": f"cp {{}} '{away}/'"}
    there = files(stack)
    result = stack.run("backup", "create", "--verify", environment=command)
    explained(result, 7, "was not copied away; it is whole", "exit code 1", "another place", "backup copy")
    newest = listed(stack)[0]
    assert Path(newest["file"]).name in result.err
    assert (len(files(stack) - there), bool(newest["verified"]), newest["copied"]) == (2, True, None)
    away.mkdir()
    result = stack.run("backup", "copy", "--json", environment=command)
    assert newest["file"] in result.json["result"]["copied"]
    assert listed(stack)[0]["copied"]
    assert Path(newest["file"]).name in {path.name for path in away.iterdir()}
    assert stack.run("backup", "copy", "--json").json["result"]["copied"] == []


def test_doctor_warns_of_an_old_or_missing_backup(stack: Sandbox, tmp_path: Path) -> None:
    """The first start, and then a verified backup, are dated back."""
    nowhere = {"BACKUP_DIR": str(tmp_path / "none")}

    def status(environment: Mapping[str, str]) -> tuple[int, list[str]]:
        diagnosis = diagnose(stack, "--only", "db.backup", environment=environment)
        return diagnosis.code, diagnosis.statuses("db.backup")

    assert status(nowhere) == (0, ["ok"])  # its data is as young as the stack
    container = client().containers.get(f"{stack.name}-db-1")
    assert execute(container, "sh", "-c", 'touch -d "2026-01-01 00:00:00" "$PGDATA/PG_VERSION"') == (0, "")
    old = diagnose(stack, "--only", "db.backup", environment=nowhere)
    assert (old.code, old.statuses("db.backup")) == (0, ["warning"])
    assert "no backup was verified in" in old.told("db.backup")
    assert "stockhelper backup schedule" in old.told("db.backup")
    assert stack.run("backup", "create", "--verify", environment=nowhere).code == 0
    assert status(nowhere) == (0, ["ok"])
    for manifest in (tmp_path / "none").glob("*.json"):
        written = json.loads(manifest.read_text())
        long_ago = (datetime.now(UTC) - timedelta(days=9)).isoformat()
        manifest.write_text(json.dumps({**written, "created": long_ago}))
    assert "9 days ago" in diagnose(stack, "--only", "db.backup", environment=nowhere).told("db.backup")
    assert status({**nowhere, "BACKUP_MAX_AGE": "10"}) == (0, ["ok"])
    for manifest in (tmp_path / "none").glob("*.json"):
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "verified": None}))
    assert status({**nowhere, "BACKUP_MAX_AGE": "10"}) == (0, ["warning"])
