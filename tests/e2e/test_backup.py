"""Backups and restores on a real PostgreSQL, and what goes wrong around them, done for real."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyrage
import pytest

from stockhelper_cli.database.backups import Backup, find_all
from tests.e2e.backups import COUNT, NEWEST, SENTINELS, create, databases, files, peak_memory
from tests.e2e.disk import keep_data_on, small_disk
from tests.e2e.steps import healthy, session
from tests.e2e.tunnel import WORDS, moments, tunnel
from tests.support import ROOT
from tests.support.refusals import explained
from tests.support.revisions import HEAD
from tests.support.sandbox import TIME_LIMIT, Sandbox, client, sandbox
from tests.support.waiting import PATIENCE, eventually

BALLAST = "ballast"
#: What a restore runs when it has put the restored database into the place of the live one.
REPAIR = re.compile(rb'"alembic", *"upgrade"')


@pytest.fixture(scope="module")
def kept(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack whose database holds 2000 sentinels and more."""
    with sandbox(tmp_path_factory.mktemp("kept")) as made:
        made.up()
        made.psql(SENTINELS)
        yield made


@pytest.fixture(scope="module")
def rows(kept: Sandbox) -> str:
    """Its sentinels, as COPY writes them."""
    return kept.psql("COPY sentinels TO STDOUT")


@pytest.fixture(scope="module")
def made(kept: Sandbox, rows: str) -> Path:
    """A backup of exactly that."""
    return create(kept)


@pytest.fixture
def backup(kept: Sandbox, made: Path, rows: str) -> Iterator[Path]:
    """The same; the rows that a test leaves live are those again, and no other database is beside them."""
    yield made
    for name in databases(kept):
        if name != "stockhelper":
            kept.psql(f'DROP DATABASE "{name}" WITH (FORCE)')
    if kept.psql(COUNT) != "2000":
        copying = f"TRUNCATE sentinels; COPY sentinels FROM STDIN;\n{rows}\n\\.\n"
        subprocess.run(
            ["docker", "exec", "-i", f"{kept.name}-db-1", "psql", "-XqU", "stockhelper", "-v", "ON_ERROR_STOP=1"],
            input=copying,
            text=True,
            check=True,
        )
        assert kept.psql(COUNT) == "2000"
    eventually(lambda: healthy(kept))


@pytest.fixture
def elsewhere(backup: Path, tmp_path: Path) -> Mapping[str, str]:
    """What has backups made in a folder of the test's own, where a copy of that one is, not verified."""
    folder = tmp_path / "backups"
    folder.mkdir()
    shutil.copy(backup, folder)
    manifest = json.loads(backup.with_suffix(".json").read_text())
    (folder / backup.name).with_suffix(".json").write_text(json.dumps({**manifest, "verified": None}))
    return {"BACKUP_DIR": str(folder)}


def found(project: Sandbox, elsewhere: Mapping[str, str]) -> list[Backup]:
    return find_all(Path(elsewhere["BACKUP_DIR"]), project.name)


@pytest.mark.long("brings up the stack; a backup is made, verified and restored")
def test_a_backup_is_verified_and_brings_back_what_was_there(kept: Sandbox, backup: Path) -> None:
    answer = kept.run("backup", "verify", str(backup), "--json").json["result"]["verified"][0]
    assert (answer["verified"] is not None, answer["rows"], answer["revisions"]) == (True, 2002, [HEAD])
    assert databases(kept) == ["stockhelper"]
    newest = f"stockhelper.backed_up={datetime.fromisoformat(answer['created']).timestamp():.0f}"
    assert kept.psql(NEWEST) == newest

    kept.psql("DELETE FROM sentinels WHERE id > 10")
    result = kept.run("restore", str(backup), "--yes", "--json").json["result"]
    assert kept.psql(COUNT) == "2000"
    assert healthy(kept)
    assert kept.psql(COUNT, user="stockhelper_app") == "2000"  # its rights came along
    assert databases(kept) == ["stockhelper", result["former"]]
    assert kept.psql(NEWEST) == newest
    assert Path(result["backup"]).exists()  # of the ten rows, before they were replaced
    create(kept)
    assert databases(kept) == ["stockhelper"]  # kept until the next backup
    explained(kept.run("restore", "--undo", "--yes"), 7, "there is no former database")


def test_a_changed_value_is_not_taken_for_the_same(kept: Sandbox, elsewhere: Mapping[str, str]) -> None:
    (copy,) = found(kept, elsewhere)
    manifest = copy.path.with_suffix(".json")
    written = manifest.read_text()
    changed = json.loads(written)
    changed["tables"]["public.sentinels"]["checksum"] = "1"
    changed["tables"]["public.alembic_version"]["rows"] = 0
    changed["tables"]["public.Odd name"]["rows"] = 2
    manifest.write_text(json.dumps(changed))
    messages = (
        "public.sentinels has other values in its 2000 rows",
        "public.alembic_version has 1 rows in place of 0",
        "public.Odd name has 1 rows in place of 2",
    )
    result = kept.run("backup", "verify", str(copy.path), environment=elsewhere)
    explained(result, 7, "is not what went in", *messages)
    result = kept.run("restore", str(copy.path), "--yes", "--no-backup", environment=elsewhere)
    explained(result, 7, "is not what went in", *messages)
    manifest.write_text(written)
    assert databases(kept) == ["stockhelper"]
    listed = kept.run("backup", "list", "--json", environment=elsewhere).json["result"]["backups"]
    assert [backup["verified"] for backup in listed] == [None]


def cut(dump: bytes) -> bytes:
    return dump[: len(dump) * 6 // 10]


def flip(dump: bytes) -> bytes:
    middle = len(dump) // 2
    return dump[:middle] + bytes([dump[middle] ^ 0x10]) + dump[middle + 1 :]


def newer(dump: bytes) -> bytes:
    version = re.search(rb"15\.\d+ \(", dump)
    assert version
    return dump.replace(version[0], b"1" + b"6" + version[0][2:], 1)


def other(dump: bytes) -> bytes:
    assert dump.count(b"\x0b\0\0\0stockhelper") >= 1
    return dump.replace(b"\x0b\0\0\0stockhelper", b"\x0b\0\0\0stockhalter", 1)


@pytest.mark.parametrize("with_manifest", [True, False], ids=["own", "of another program"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "is damaged"),
        (flip, "is damaged"),
        (lambda dump: b"", "is empty"),
        (lambda dump: b"-- PostgreSQL database dump\n" * 100, "is damaged"),
        (lambda dump: os.urandom(len(dump)), "is damaged"),
    ],
    ids=["cut off", "a bit flipped", "empty", "plain SQL", "noise"],
)
def test_a_damaged_dump_is_refused_and_nothing_is_touched(
    kept: Sandbox, backup: Path, tmp_path: Path, damage: Any, message: str, with_manifest: bool
) -> None:
    copy = tmp_path / "copy.dump"
    copy.write_bytes(damage(backup.read_bytes()))
    if with_manifest:
        copy.with_suffix(".json").write_bytes(backup.with_suffix(".json").read_bytes())
    before = kept.container("app")["State"]["StartedAt"], files(kept)
    explained(kept.run("restore", str(copy), "--yes"), 7, message)
    assert (kept.container("app")["State"]["StartedAt"], files(kept)) == before
    assert (databases(kept), kept.psql(COUNT)) == (["stockhelper"], "2000")


@pytest.mark.parametrize(
    ("change", "message"),
    [(newer, "which is newer than this one (15."), (other, "is of the database stockhalter, not of stockhelper")],
    ids=["newer major", "another database"],
)
def test_a_dump_of_something_else_is_refused(
    kept: Sandbox, backup: Path, tmp_path: Path, change: Any, message: str
) -> None:
    copy = tmp_path / "copy.dump"
    copy.write_bytes(change(backup.read_bytes()))
    explained(kept.run("restore", str(copy), "--yes"), 7, message)
    assert (databases(kept), kept.psql(COUNT)) == (["stockhelper"], "2000")


def test_dump_of_pg_dump_replaces_a_database_in_use(kept: Sandbox, backup: Path, tmp_path: Path) -> None:
    """A dump without a manifest is restored although a session holds a lock and the app is paused."""
    dump = tmp_path / "theirs.dump"
    with dump.open("wb") as file:
        command = ["docker", "exec", f"{kept.name}-db-1", "pg_dump", "-Fc", "-U", "stockhelper", "stockhelper"]
        subprocess.run(command, stdout=file, check=True)
    explained(kept.run("backup", "verify", str(dump)), 7, "it has no manifest")
    kept.psql("TRUNCATE sentinels")
    app = client().containers.get(f"{kept.name}-app-1")
    with session(kept, "BEGIN; LOCK TABLE stocks IN ACCESS SHARE MODE"):
        app.pause()
        try:
            result = kept.run("restore", str(dump), "--yes", "--no-backup")
        finally:
            app.reload()
            if app.status == "paused":
                app.unpause()
    assert result.code == 0, result.err
    assert kept.psql(COUNT) == "2000"


def test_encrypted_backup_is_verified_and_restored(kept: Sandbox, elsewhere: Mapping[str, str], tmp_path: Path) -> None:
    """An encrypted backup is made and verified without a key on the machine, and restored with its key."""
    identity = pyrage.x25519.Identity.generate()
    recipients = {**elsewhere, "BACKUP_RECIPIENTS": str(identity.to_public())}
    made = create(kept, "--verify", environment=recipients)
    assert made.name.endswith(".dump.age")
    newest = found(kept, elsewhere)[0]
    assert (newest.path, newest.verified, newest.rows) == (made, True, 2002)
    assert made.read_bytes().startswith(b"age-encryption.org/v1\n")
    assert pyrage.decrypt(made.read_bytes(), [identity]).startswith(b"PGDMP")
    key = tmp_path / "key.txt"
    key.write_text(f"{identity}\n")
    kept.psql("DELETE FROM sentinels WHERE id > 10")
    result = kept.run("restore", str(made), "-i", str(key), "--yes", "--no-backup", environment=recipients)
    assert result.code == 0, result.err
    assert (kept.psql(COUNT), kept.psql(COUNT, user="stockhelper_app"), healthy(kept)) == ("2000", "2000", True)


# --- kills
def test_restore_killed_after_the_swap_can_be_undone(kept: Sandbox, backup: Path) -> None:
    """A restore that is killed right behind the swap leaves the new rows, all of them; `--undo` brings the old back."""
    kept.psql("DELETE FROM sentinels WHERE id > 10")
    with tunnel(REPAIR) as remote:
        process = kept.start("restore", str(backup), "--yes", "--no-backup", environment=remote.environment)
        remote.on_request(1, process.kill)
        _, err = process.communicate(timeout=TIME_LIMIT)
    assert (process.returncode, kept.psql(COUNT)) == (-signal.SIGKILL, "2000"), err
    undone = kept.run("restore", "--undo", "--yes", "--json").json["result"]
    assert (undone["stopped"], kept.psql(COUNT)) == (["app"], "10")  # the run that was killed had stopped it
    assert databases(kept) == ["stockhelper", undone["former"]]
    kept.up()


@pytest.mark.slow
def test_killed_restore_leaves_a_complete_old_or_new_database(kept: Sandbox, backup: Path) -> None:
    """Kill before each command that changes something; the next run gets through, whatever was left behind."""
    command = ("restore", str(backup), "--yes", "--no-backup")
    kept.psql("DELETE FROM sentinels WHERE id > 10")
    commands = list(moments(heard(kept, *command)))
    assert kept.psql(COUNT) == "2000"
    kept.psql("DELETE FROM sentinels WHERE id > 10")
    seen, undone = [], False
    for kind, number in commands:
        with tunnel(kind) as remote:
            process = kept.start(*command, environment=remote.environment)
            remote.on_request(number, process.kill)
            _, err = process.communicate(timeout=TIME_LIMIT)
        assert process.returncode == -signal.SIGKILL, err
        seen.append(kept.psql(COUNT))
        if seen[-1] == "2000" and not undone:  # killed between the swap and its end
            assert kept.run("restore", "--undo", "--yes").code == 0
            assert kept.psql(COUNT) == "10"
            undone = True
    assert len(seen) > 6
    assert (set(seen), undone) == ({"10", "2000"}, True)
    again = kept.run("restore", str(backup), "--yes", "--json").json["result"]
    assert (again["stopped"], kept.psql(COUNT)) == (["app"], "2000")  # a run that was killed had stopped it
    kept.up()
    create(kept)
    assert databases(kept) == ["stockhelper"]


@pytest.mark.slow
def test_a_backup_killed_at_any_command_is_whole_or_none(kept: Sandbox, elsewhere: Mapping[str, str]) -> None:
    """As above; what has a name is whole, and the next one holds every row whatever was left behind."""
    command = ("backup", "create", "--verify")
    commands = list(moments(heard(kept, *command, environment=elsewhere)))
    listed = [len(found(kept, elsewhere))]
    for kind, number in commands:
        with tunnel(kind) as remote:
            process = kept.start(*command, environment={**remote.environment, **elsewhere})
            remote.on_request(number, process.kill)
            _, err = process.communicate(timeout=TIME_LIMIT)
        assert process.returncode == -signal.SIGKILL, err
        assert (kept.psql(COUNT), healthy(kept)) == ("2000", True)
        assert {entry.rows for entry in found(kept, elsewhere)} == {2002}
        listed.append(len(found(kept, elsewhere)))
    assert len(listed) > 6
    assert listed[-1] - listed[0] > 1  # some were killed only while they were verified
    create(kept, "--verify", environment=elsewhere)
    result = kept.run("backup", "verify", "--all", "--json", environment=elsewhere)
    assert result.code == 0, result.out
    assert databases(kept) == ["stockhelper"]


def heard(project: Sandbox, *arguments: str, environment: Mapping[str, str] | None = None) -> list[bytes]:
    """Run `stockhelper` to its good end and return the words of every command that it has run in a container."""
    with tunnel(WORDS) as remote:
        remote.let_through()
        process = project.start(*arguments, environment={**remote.environment, **(environment or {})})
        _, err = process.communicate(timeout=TIME_LIMIT)
    assert process.returncode == 0, err
    return remote.heard


def test_a_killed_backup_is_none_and_holds_up_nobody(kept: Sandbox, elsewhere: Mapping[str, str]) -> None:
    folder = Path(elsewhere["BACKUP_DIR"])
    with session(kept, "BEGIN; LOCK TABLE sentinels"):
        process = kept.start("backup", "create", environment=elsewhere)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually(lambda: kept.psql(waiting) == "1")
        assert list(folder.glob("*.partial"))
        explained(kept.run("backup", "create", environment=elsewhere), 8, "another run is at work")
        process.kill()
        process.communicate()
    (copy,) = found(kept, elsewhere)
    newer = create(kept, environment=elsewhere)
    listed = kept.run("backup", "list", "--json", environment=elsewhere).json["result"]["backups"]
    assert [entry["file"] for entry in listed] == [str(newer), str(copy.path)]
    assert not list(folder.glob("*.partial"))
    # Its session ends a moment after it.
    eventually(lambda: kept.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'") == "0")


def test_an_interrupted_backup_leaves_nothing(kept: Sandbox, backup: Path) -> None:
    before = files(kept)
    with session(kept, "BEGIN; LOCK TABLE sentinels"):
        process = kept.start("backup", "create")
        eventually(lambda: kept.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert files(kept) == before


def test_backup_on_a_full_disk_is_reported_and_leaves_nothing(kept: Sandbox, backup: Path, tmp_path: Path) -> None:
    """A full backup disk is reported, and no incomplete backup is left on it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)], check=True)
    try:
        result = kept.run("backup", "create", environment={"BACKUP_DIR": str(tmp_path)})
        explained(result, 7, "cannot be written", "No space left on device")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_database(kept: Sandbox, backup: Path) -> None:
    noise = "SELECT string_agg(decode(md5(random()::text || g), 'hex'), '') FROM generate_series(1, 65536) g"

    def peak() -> int:
        return peak_memory(kept, "backup", "create", "--json")

    kept.psql("CREATE TABLE noise (id int, bytes bytea)")
    try:
        kept.psql(f"ALTER TABLE noise ALTER bytes SET STORAGE EXTERNAL; INSERT INTO noise VALUES (1, ({noise}))")
        small = peak()
        kept.psql("INSERT INTO noise SELECT g, bytes FROM noise, generate_series(2, 24) g")
        assert peak() - small < 4096, "KiB"
    finally:
        kept.psql("DROP TABLE noise")


@pytest.mark.slow
def test_the_readmes_way_to_a_new_machine_brings_every_row(kept: Sandbox, backup: Path, tmp_path: Path) -> None:
    """The runbook as it stands in the README, with the old machine's stack and data gone."""
    readme = (ROOT / "README.md").read_text()
    runbook = re.search(r"^### A new machine.*?```console\n(.*?)```", readme, re.M | re.S)
    assert runbook
    commands = [line.removeprefix("$ ").split() for line in runbook[1].splitlines()]
    down = kept.run("down", "--volumes", "--yes", "--json")
    saved = Path(down.json["result"]["backup"])
    assert json.loads(saved.with_suffix(".json").read_text())["verified"]
    with sandbox(tmp_path) as new:
        (new.root / ".env").write_bytes((kept.root / ".env").read_bytes())
        (kept.root / "backups").rename(new.root / "backups")
        for command in commands:
            words = ["up"] if command == ["make", "up"] else command[1:]
            result = new.run(*words, *(["--yes"] if "restore" in words else []))
            assert result.code == 0, f"{command}: {result.err}"
        assert (kept.psql(COUNT), healthy(kept)) == ("2000", True)
        (new.root / "backups").rename(kept.root / "backups")


# --- a volume that is nearly full
@pytest.fixture
def small(swept: None, tmp_path: Path) -> Iterator[Sandbox]:
    """A stack whose volume is a file system of 200 MB, and a file of 24 MB that somebody may do without."""
    with small_disk(tmp_path, 224) as place, sandbox(tmp_path) as made:
        keep_data_on(made, place)
        made.up()
        (place / BALLAST).write_bytes(bytes(24 << 20))
        made.psql(SENTINELS)
        yield made


@pytest.mark.slow
def test_on_a_full_disk_no_row_is_lost_and_it_is_named(small: Sandbox, tmp_path: Path) -> None:
    whole = create(small)
    small.psql("CREATE TABLE filler AS SELECT g, repeat('x', 1000) t FROM generate_series(1, 40000) g")
    large = create(small)
    explained(small.run("restore", str(large), "--yes", "--no-backup"), 4, "there is no room to restore", "MB are free")
    explained(small.run("backup", "verify", str(large)), 4, "there is no room to restore")
    assert (small.psql(COUNT), databases(small), healthy(small)) == ("2000", ["stockhelper"], True)

    # Past the check, as when somebody else fills the disk meanwhile: the server itself refuses.
    manifest = json.loads(large.with_suffix(".json").read_text())
    large.with_suffix(".json").write_text(json.dumps({**manifest, "database_size": -(32 << 20)}))
    small.psql("CREATE TABLE more AS SELECT g, repeat('x', 1000) t FROM generate_series(1, 15000) g")
    result = small.run("restore", str(large), "--yes", "--no-backup")
    explained(result, 7, "No space left on device")
    # A server that could not even write its log comes back once there is room for that; from one of its restarts to
    # the next the engine waits twice as long.
    (tmp_path / "mounted" / BALLAST).unlink()
    eventually(lambda: healthy(small), 3 * PATIENCE)
    assert small.psql(COUNT) == "2000"

    small.psql("DROP TABLE filler, more; CHECKPOINT")
    result = small.run("restore", str(whole), "--yes", "--json")
    assert result.code == 0, result.out
    assert (small.psql(COUNT), healthy(small)) == ("2000", True)
    assert databases(small) == ["stockhelper", result.json["result"]["former"]]
