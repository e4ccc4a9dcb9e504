"""What `backup` and `restore` refuse before they ask the engine for anything: calls, files, keys and settings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from stockhelper_cli.database.backups import Manifest, Writer
from stockhelper_cli.database.server import Contents
from tests.cli.conftest import World
from tests.support.refusals import explained

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = pyrage.x25519.Identity.generate()
OTHER = pyrage.x25519.Identity.generate()


@pytest.fixture
def sealed(world: World) -> Path:
    """An encrypted backup of the project."""
    recipients = [str(KEY.to_public())]
    writer = Writer(world.root / "backups", "stockhelper", NOW, recipients)
    writer.write(b"PGDMP")
    writer.finish()
    made = Manifest(
        project="stockhelper",
        database="stockhelper",
        created=NOW,
        server_version="15.8",
        size=writer.size,
        database_size=100,
        sha256=writer.sha256,
        contents=Contents(),
        roles=(),
        cause="a test",
        recipients=tuple(recipients),
    )
    return writer.publish(made).path


def test_restore_without_terminal_or_with_bad_file_is_refused(world: World, tmp_path: Path) -> None:
    """A restore needs a terminal or `--yes`, one source, and a file that can be read."""
    dump = tmp_path / "theirs.dump"
    dump.write_bytes(b"PGDMP")
    explained(world.run("restore", str(dump)), 9, "will be replaced by", "the same with --yes")
    explained(world.run("restore", str(dump), "--latest", "--yes"), 2, "one of FILE, --latest and --undo")
    explained(world.run("restore", "absent.dump", "--yes"), 7, "absent.dump cannot be read")
    assert world.engine.calls == []


def test_missing_or_invalid_identity_is_refused(world: World, sealed: Path, tmp_path: Path) -> None:
    """An encrypted backup needs an identity; a file that holds none is reported by its line, without its content."""
    explained(world.run("restore", "--latest", "--yes"), 7, "is encrypted, and no identity", "--identity FILE")
    explained(world.run("backup", "verify", str(sealed)), 7, str(KEY.to_public()))
    bad = tmp_path / "key"
    bad.write_text(f"# mine\n{str(KEY)[:-1]}\n")
    result = world.run("backup", "verify", "-i", str(bad))
    explained(result, 7, f"{bad}:2 cannot be used to decrypt")
    assert str(KEY)[:-1] not in result.err
    explained(world.run("backup", "verify", "-i", "absent"), 7, "absent cannot be read")
    assert world.engine.calls == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("age1nonsense", "BACKUP_RECIPIENTS holds 'age1nonsense'"),
        (str(KEY), "BACKUP_RECIPIENTS holds a private key"),
    ],
    ids=["not a key", "private key"],
)
def test_bad_recipient_is_refused_by_file_line_and_key(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, message: str
) -> None:
    """A recipient that is no public key is reported by its place, and a private one is not shown."""
    assert world.run("up", "-q").code == 0
    calls = list(world.engine.calls)
    monkeypatch.setenv("BACKUP_RECIPIENTS", value)
    result = world.run("backup", "create")
    explained(result, 3, message)
    assert str(KEY) not in result.err
    monkeypatch.delenv("BACKUP_RECIPIENTS")
    recipients = tmp_path / "recipients"
    recipients.write_text(f"# those who may\n{OTHER.to_public()}\n{value}\n")
    monkeypatch.setenv("BACKUP_RECIPIENTS_FILE", str(recipients))
    result = world.run("backup", "create")
    explained(result, 3, f"{recipients}:3: holds")
    assert str(KEY) not in result.err
    assert world.engine.calls == calls
    assert not (world.root / "backups").exists()


def test_bad_copy_command_and_bad_calls_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy command must name the file, `backup copy` needs one, and `--prune` needs `--verify`."""
    monkeypatch.setenv("BACKUP_COPY_COMMAND", "cp away/")
    explained(world.run("backup", "create", "--verify"), 3, "BACKUP_COPY_COMMAND has no {}")
    monkeypatch.setenv("BACKUP_COPY_COMMAND", "")
    explained(world.run("backup", "copy"), 3, "is not set")
    explained(world.run("backup", "create", "--prune"), 2, "--prune needs --verify")
    assert world.engine.calls == []
    assert not (world.root / "backups").exists()
