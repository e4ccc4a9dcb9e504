"""Encrypted backups on a real PostgreSQL: made, verified and restored, and each way in which one cannot be opened.

One of them is made and restored in `make test` (test_backup); bad keys are refused in tests/cli.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyrage
import pytest

from tests.e2e.backups import COUNT, create, databases, files, peak_memory
from tests.e2e.steps import healthy, session
from tests.support.refusals import explained
from tests.support.revisions import REVISIONS
from tests.support.sandbox import Sandbox, sandbox
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.slow

#: Bytes that age encrypts together, and what it adds to them.
CHUNK = 64 * 1024 + 16
KEY = pyrage.x25519.Identity.generate()
OTHER = pyrage.x25519.Identity.generate()
#: What no encrypted file may hold, and compression leaves alone.
CANARY = "canary-in-the-coal-mine"


@pytest.fixture(scope="module")
def sealed(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack whose backups are encrypted to two recipients, with rows, some of them noise of several chunks."""
    noise = "SELECT string_agg(decode(md5(random()::text || g), 'hex'), '') FROM generate_series(1, 16384) g"
    recipients = f"{OTHER.to_public()}, {KEY.to_public()}"
    with sandbox(tmp_path_factory.mktemp("sealed"), BACKUP_RECIPIENTS=recipients) as made:
        made.up()
        made.psql(
            "CREATE TABLE sentinels (id int PRIMARY KEY, t text, noise bytea);"
            f" INSERT INTO sentinels SELECT g, '{CANARY}' FROM generate_series(1, 100) g;"
            f" UPDATE sentinels SET noise = ({noise}) WHERE id = 1; GRANT SELECT ON sentinels TO stockhelper_app"
        )
        yield made


@pytest.fixture(scope="module")
def backup(sealed: Sandbox) -> Path:
    """A verified backup of it."""
    return create(sealed, "--verify")


@pytest.fixture
def key(tmp_path: Path) -> str:
    """The file of a private key, as age-keygen writes it."""
    path = tmp_path / "key.txt"
    path.write_text(f"# public key: {KEY.to_public()}\n{KEY}\n")
    return str(path)


def test_it_is_verified_without_a_key_on_the_machine(sealed: Sandbox, backup: Path) -> None:
    manifest = json.loads(backup.with_suffix("").with_suffix(".json").read_text())
    assert backup.name.endswith(".dump.age")
    assert manifest["verified"]
    assert manifest["recipients"] == [str(OTHER.to_public()), str(KEY.to_public())]
    assert backup.read_bytes().startswith(b"age-encryption.org/v1\n")
    for path in backup.parent.iterdir():
        assert CANARY.encode() not in path.read_bytes()
        assert b"AGE-SECRET" not in path.read_bytes()
    assert "verified, encrypted" in sealed.run("backup", "list").out
    plain = pyrage.decrypt(backup.read_bytes(), [KEY])
    assert plain.startswith(b"PGDMP")


def test_encrypted_backup_is_restored_with_its_key(sealed: Sandbox, backup: Path, key: str) -> None:
    """An encrypted backup is restored with its key from a file or a pipe, and can be undone."""
    assert sealed.run("backup", "verify", "--identity", "-", stdin=str(KEY)).code == 0
    sealed.psql("DELETE FROM sentinels WHERE id > 10")
    result = sealed.run("restore", str(backup), "-i", key, "--yes", "--json").json["result"]
    assert result["backup"].endswith(".dump.age")  # of the ten rows, before they were replaced
    assert (sealed.psql(COUNT), sealed.psql(COUNT, user="stockhelper_app"), healthy(sealed)) == ("100", "100", True)
    assert sealed.run("restore", "--undo", "--yes").code == 0
    assert sealed.psql(COUNT) == "10"
    assert sealed.run("restore", "--undo", "--yes").code == 0
    assert sealed.psql(COUNT) == "100"


def cut_at_a_chunk(file: bytes) -> bytes:
    payload = file.index(b"\n", file.index(b"\n--- ") + 1) + 1 + 16
    assert len(file) > payload + 2 * CHUNK
    return file[: payload + 2 * CHUNK]


def flip(file: bytes) -> bytes:
    return file[: len(file) // 2] + bytes([file[len(file) // 2] ^ 1]) + file[len(file) // 2 + 1 :]


def flip_in_the_header(file: bytes) -> bytes:
    place = file.index(b"-> X25519 ") + 15
    return file[:place] + bytes([file[place] ^ 1]) + file[place + 1 :]


def keep(file: bytes) -> bytes:
    return file


@pytest.mark.parametrize(
    ("change", "with_manifest", "own_key", "message"),
    [
        (keep, True, False, "cannot be opened with this identity"),
        (keep, False, False, "cannot be opened with this identity"),
        (flip, True, True, "is damaged"),
        (flip, False, True, "is damaged"),
        (flip_in_the_header, True, False, "is damaged"),
        (cut_at_a_chunk, True, True, "is damaged"),
        (cut_at_a_chunk, False, True, "the file ends too early"),
        (lambda file: file[:50], False, True, "the file ends too early"),
        (lambda file: file + b"x", False, True, "is damaged"),
        (lambda file: b"", False, True, "is empty"),
    ],
    ids=[
        "wrong key",
        "wrong key, no manifest",
        "bit",
        "bit, no manifest",
        "bit in the header",
        "cut at a chunk",
        "cut at a chunk, no manifest",
        "cut in the header",
        "more behind it",
        "empty",
    ],
)
def test_backup_that_cannot_be_opened_changes_nothing(
    sealed: Sandbox,
    backup: Path,
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    with_manifest: bool,
    own_key: bool,
    message: str,
) -> None:
    """A wrong key, a damaged file and an incomplete file have their own messages and change nothing."""
    copy = tmp_path / "copy.dump.age"
    copy.write_bytes(change(backup.read_bytes()))
    if with_manifest:
        (tmp_path / "copy.json").write_bytes(backup.with_suffix("").with_suffix(".json").read_bytes())
    there = files(sealed)
    secret = str(KEY) if own_key else str(pyrage.x25519.Identity.generate())
    key = tmp_path / "key.txt"
    key.write_text(secret)
    result = sealed.run("restore", str(copy), "--yes", "-i", str(key))
    explained(result, 7, message)
    assert secret not in result.err
    assert (files(sealed), sealed.psql(COUNT)) == (there, "100")


def test_the_recipients_of_a_file_can_open_it(sealed: Sandbox, tmp_path: Path) -> None:
    recipients = tmp_path / "recipients"
    third = pyrage.x25519.Identity.generate()
    recipients.write_text(f"# those who may\n{third.to_public()}\n")
    result = sealed.run("backup", "create", "--json", environment={"BACKUP_RECIPIENTS_FILE": str(recipients)})
    assert pyrage.decrypt(Path(result.json["result"]["file"]).read_bytes(), [third]).startswith(b"PGDMP")


def test_what_was_made_by_other_programs_is_restored(sealed: Sandbox, backup: Path, tmp_path: Path, key: str) -> None:
    theirs = tmp_path / "theirs.bin"
    theirs.write_bytes(pyrage.encrypt(pyrage.decrypt(backup.read_bytes(), [KEY]), [KEY.to_public()], armored=True))
    sealed.psql("TRUNCATE sentinels")
    assert sealed.run("restore", str(theirs), "-i", key, "--yes", "--no-backup").code == 0
    assert sealed.psql(COUNT) == "100"


def test_an_interrupted_one_leaves_nothing(sealed: Sandbox) -> None:
    before = files(sealed)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with session(sealed, "BEGIN; LOCK TABLE sentinels"):
            process = sealed.start("backup", "create")
            eventually(lambda: sealed.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1")
            assert [name for name in files(sealed) if name.endswith(".partial")]
            process.send_signal(number)
            _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, err
        assert files(sealed) == before
    with session(sealed, "BEGIN; LOCK TABLE sentinels"):
        process = sealed.start("backup", "create")
        eventually(lambda: sealed.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1")
        process.kill()
        process.communicate()
    create(sealed)
    assert not [name for name in files(sealed) if name.endswith(".partial")]


def test_a_full_disk_is_named_and_nothing_is_left_on_it(sealed: Sandbox, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        result = sealed.run("backup", "create", environment={"BACKUP_DIR": str(tmp_path)})
        explained(result, 7, "cannot be written", "No space left on device")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_up_makes_a_backup_and_an_interrupted_one_is_removed(sealed: Sandbox, backup: Path, key: str) -> None:
    """`up` makes an encrypted backup before it migrates, and removes an incomplete one if interrupted."""
    sealed.psql("CREATE TABLE parted (id int) PARTITION BY RANGE (id)")  # what is asked for rows is not this one
    assert sealed.run("migrate", "downgrade", REVISIONS[-2], "--yes", "--no-backup").code == 0
    before = files(sealed)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with session(sealed, "BEGIN; LOCK TABLE parted"):
            process = sealed.start("up")
            eventually(lambda: sealed.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1")
            assert [name for name in files(sealed) if name.endswith(".partial")]
            process.send_signal(number)
            _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, err
        assert files(sealed) == before
    result = sealed.run("up", "--json")
    assert result.code == 0, result.err
    made = Path(result.json["result"]["backup"])
    assert made.name.endswith(".dump.age")
    assert sealed.run("backup", "verify", str(made), "-i", key).code == 0
    assert databases(sealed) == ["stockhelper"]


def test_memory_does_not_grow_with_the_database(sealed: Sandbox, key: str) -> None:
    def peaks() -> list[int]:
        return [peak_memory(sealed, "backup", *arguments) for arguments in (["create"], ["verify", "-i", key])]

    small = peaks()
    sealed.psql("CREATE TABLE noise AS SELECT g, noise FROM sentinels, generate_series(1, 80) g WHERE id = 1")
    try:
        assert [large - before < 4096 for large, before in zip(peaks(), small, strict=True)] == [True] * 2, "KiB"
    finally:
        sealed.psql("DROP TABLE noise")
