"""The folder of backups: what counts as one, what retention lets go, and what a manifest must be."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockhelper_cli.database import backups
from stockhelper_cli.database.backups import Backup, Manifest, Writer
from stockhelper_cli.database.server import Contents, Table
from stockhelper_cli.errors import StockhelperError

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)  # a Tuesday


def manifest(created: datetime = NOW, *, verified: bool = False, size: int = 4, sha256: str = "") -> Manifest:
    contents = Contents(("0001",), {"public.stocks": Table(2, "17")})
    return Manifest(
        "demo",
        "stockhelper",
        created,
        "15.8",
        size,
        100,
        sha256,
        contents,
        ("a", "b"),
        "a test",
        NOW if verified else None,
    )


def stored(folder: Path, created: datetime = NOW, *, verified: bool = False, project: str = "demo") -> Backup:
    writer = Writer(folder, project, created)
    writer.write(b"dump")
    writer.finish()
    return writer.publish(manifest(created, verified=verified, sha256=writer.sha256))


def days(*ages: float, verified: bool = True) -> Callable[[Path], list[Backup]]:
    def make(folder: Path) -> list[Backup]:
        return [stored(folder, NOW - timedelta(days=age), verified=verified) for age in ages]

    return make


def test_a_backup_is_found_again_as_it_was_written(tmp_path: Path) -> None:
    made = stored(tmp_path / "new" / "folder", verified=True)
    assert backups.find_all(tmp_path / "new" / "folder", "demo") == [made]
    assert backups.read(made.path) == made
    assert (made.path.name, made.rows, made.verified) == ("demo-20261124T120000Z.dump", 2, True)
    assert b"".join(made.pieces()) == b"dump"


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    made = stored(tmp_path / "folder")
    assert [
        stat.S_IMODE(path.stat().st_mode) for path in (made.path.parent, made.path, backups.manifest_path(made.path))
    ] == [
        0o700,
        0o600,
        0o600,
    ]


def test_what_is_not_finished_is_no_backup_and_is_swept_away(tmp_path: Path) -> None:
    whole = stored(tmp_path)
    for half in ("demo-20261124T120001Z.dump.partial", "demo-two-20261124T120000Z.dump.partial"):
        (tmp_path / half).write_bytes(b"half")
    assert backups.find_all(tmp_path, "demo") == [whole]
    backups.sweep(tmp_path, "demo")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "demo-20261124T120000Z.dump",
        "demo-20261124T120000Z.json",
        "demo-two-20261124T120000Z.dump.partial",
    ]


def test_manifest_without_its_dump_is_swept_away(tmp_path: Path) -> None:
    """A manifest without its dump is removed together with the incomplete dump."""
    dump = tmp_path / "demo-20261124T120000Z.dump"
    dump.with_suffix(".dump.partial").write_bytes(b"dump")
    backups.write_manifest(dump, manifest())  # killed just before the dump got its name
    backups.sweep(tmp_path, "demo")
    assert list(tmp_path.iterdir()) == []


def test_discard_removes_a_draft_but_not_a_published_backup(tmp_path: Path) -> None:
    """Discarding an unfinished backup leaves nothing, and a published backup stays."""
    writer = Writer(tmp_path, "demo", NOW)
    writer.write(b"half")
    writer.discard()
    assert list(tmp_path.iterdir()) == []
    writer = Writer(tmp_path, "demo", NOW)
    writer.finish()
    made = writer.publish(manifest())
    writer.discard()
    assert backups.read(made.path) == made


def test_two_projects_share_a_folder(tmp_path: Path) -> None:
    mine, theirs = stored(tmp_path), stored(tmp_path, project="demo-two")
    assert [backup.path for backup in backups.find_all(tmp_path, "demo")] == [mine.path]
    assert backups.find_all(tmp_path, "demo-two") == []  # its manifest says demo
    assert theirs.path.exists()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "nonsense", '{"schema": 2}', json.dumps({**manifest().as_json(), "tables": [1]})],
    ids=["empty", "a list", "nothing", "no JSON", "another schema", "tables of another shape"],
)
def test_invalid_manifest_is_rejected_and_not_listed(tmp_path: Path, text: str) -> None:
    """An invalid manifest is rejected by name, and the list skips it."""
    made = stored(tmp_path)
    backups.manifest_path(made.path).write_text(text)
    with pytest.raises(StockhelperError, match=r"\.json is no manifest") as raised:
        backups.read(made.path)
    assert raised.value.code == "backup.damaged"
    assert backups.find_all(tmp_path, "demo") == []


@pytest.mark.parametrize("name", ["absent.dump", "."])
def test_a_file_that_is_none_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(StockhelperError) as raised:
        backups.read(tmp_path / name)
    assert raised.value.code == "backup.missing"


def test_a_dump_of_another_program_has_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "theirs.dump").write_bytes(b"PGDMP")
    made = backups.read(tmp_path / "theirs.dump")
    assert (made.size, made.manifest, made.rows, made.verified) == (5, None, None, False)


def test_the_day_of_a_verification_is_noted(tmp_path: Path) -> None:
    made = stored(tmp_path)
    assert not made.verified
    assert backups.mark_verified(made, NOW).verified
    assert backups.read(made.path).verified


@pytest.mark.parametrize(
    ("ages", "daily", "weekly", "gone"),
    [
        ((0, 1, 2), 2, 0, [2]),
        ((0, 0.1, 0.2, 1), 2, 0, [0.2, 0.1]),  # of a day, the newest stays
        ((0, 10, 20), 2, 0, [20]),  # days without a backup do not count
        ((0, 1, 7, 8, 14), 1, 2, [14, 8, 1]),  # Tuesday, Monday; then the weeks before
        ((0, 1), 0, 0, [1]),  # the last one stays whatever the numbers
        ((), 7, 4, []),
    ],
)
def test_retention(tmp_path: Path, ages: tuple[float, ...], daily: int, weekly: int, gone: list[float]) -> None:
    found = days(*ages)(tmp_path)
    expected = [NOW - timedelta(days=age) for age in gone]
    chosen = backups.to_prune(found, daily=daily, weekly=weekly)
    assert [backup.manifest.created for backup in chosen if backup.manifest] == expected


def test_only_verified_ones_count_and_only_they_go(tmp_path: Path) -> None:
    verified = days(5, 6)(tmp_path)
    days(0, 1, 20, verified=False)(tmp_path)
    chosen = backups.to_prune(backups.find_all(tmp_path, "demo"), daily=1, weekly=0)
    assert chosen == [verified[1]]
    backups.remove(chosen[0])
    assert not chosen[0].path.exists()
    assert not backups.manifest_path(chosen[0].path).exists()


def test_what_differs_is_named() -> None:
    before = Contents(("0001",), {"a": Table(1, "1"), "b": Table(2, "2"), "c": Table(3, "3")})
    after = Contents(("0002",), {"a": Table(1, "9"), "b": Table(1, "2"), "d": Table(0, "0")})
    assert before.differences(before) == []
    assert before.differences(after) == [
        "revision 0002 in place of 0001",
        "a has other values in its 1 rows",
        "b has 1 rows in place of 2",
        "c is missing",
        "d is not to be there",
    ]
