"""Where the migrations lead, read off the files without running them, and where the database stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockhelper_cli.database.revisions import Code, Position, Recorded, compare, heads_of_sources
from stockhelper_cli.errors import ConfigError
from tests.support import ROOT


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def migration(revision: str, down: object, extra: str = "") -> str:
    return f'"""A migration."""\nrevision = {revision!r}\ndown_revision = {down!r}\n{extra}'


def test_an_empty_folder_has_no_head(tmp_path: Path) -> None:
    assert heads_of_sources(tmp_path) == []


def test_a_line_of_migrations_has_its_last_as_head(tmp_path: Path) -> None:
    write(tmp_path, a=migration("a1", None), b=migration("b2", "a1"), c=migration("c3", "b2"))
    assert heads_of_sources(tmp_path) == ["c3"]


def test_names_of_files_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, z=migration("a1", None), a=migration("b2", "a1"))
    assert heads_of_sources(tmp_path) == ["b2"]


def test_two_branches_have_two_heads_sorted(tmp_path: Path) -> None:
    write(tmp_path, a=migration("a1", None), b=migration("z9", "a1"), c=migration("b2", "a1"))
    assert heads_of_sources(tmp_path) == ["b2", "z9"]


@pytest.mark.parametrize("down", [("b2", "z9"), ["b2", "z9"]], ids=["tuple", "list"])
def test_a_merge_joins_branches_into_one_head(tmp_path: Path, down: object) -> None:
    write(tmp_path, a=migration("a1", None), b=migration("z9", "a1"), c=migration("b2", "a1"), m=migration("m", down))
    assert heads_of_sources(tmp_path) == ["m"]


def test_a_revision_that_another_one_depends_on_is_no_head(tmp_path: Path) -> None:
    """Alembic's alembic_version holds one row for the dependent one alone."""
    write(tmp_path, a=migration("a1", None), b=migration("b1", None, 'depends_on = "a1"\n'))
    assert heads_of_sources(tmp_path) == ["b1"]


def test_annotated_assignments_are_read_as_revisions(tmp_path: Path) -> None:
    """Annotated assignments, as the template of Alembic writes them, are read."""
    text = (
        "from collections.abc import Sequence\n"
        'revision: str = "b2"\n'
        'down_revision: str | Sequence[str] | None = "a1"\n'
        "branch_labels: str | Sequence[str] | None = None\n"
        "unset: str\n"
    )
    write(tmp_path, a=migration("a1", None), b=text)
    assert heads_of_sources(tmp_path) == ["b2"]


def test_files_without_a_revision_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, a=migration("a1", None), __init__="", common="revision = f'x{1}'\nVALUE = [1]\n")
    assert heads_of_sources(tmp_path) == ["a1"]


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, a=migration("a1", None), b="revision = 'b2'\ndef upgrade(:\n")
    with pytest.raises(ConfigError) as raised:
        heads_of_sources(tmp_path)
    assert raised.value.code == "config.value"
    assert raised.value.message == f"{tmp_path / 'b.py'}:2: the migration is not valid Python"
    assert raised.value.cause


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_bytes(b"revision = 'b2'\n\0\n")
    with pytest.raises(ConfigError, match=r"b\.py"):
        heads_of_sources(tmp_path)


def test_no_file_is_run(tmp_path: Path) -> None:
    write(tmp_path, a=migration("a1", None, "raise SystemExit(3)\n"))
    assert heads_of_sources(tmp_path) == ["a1"]


def test_our_own_migrations_have_one_head() -> None:
    assert len(heads_of_sources(ROOT / "migrations" / "versions")) == 1


# --- how a database stands to the code
LINE = Code(("3",), {"1": frozenset(), "2": frozenset({"1"}), "3": frozenset({"2"})})


@pytest.mark.parametrize(
    ("at", "line", "code", "position", "pending", "strange"),
    [
        ("3", "1 2 3", LINE, Position.HEAD, "", ""),
        ("", "", LINE, Position.BEHIND, "1 2 3", ""),
        ("1", "1", LINE, Position.BEHIND, "2 3", ""),
        ("1", "", LINE, Position.BEHIND, "2 3", ""),
        ("5", "1 2 3 4 5", LINE, Position.AHEAD, "", "5"),
        ("5", "1 2 5", LINE, Position.UNKNOWN, "", "5"),
        ("5", "", LINE, Position.UNKNOWN, "", "5"),
        ("2", "1 2", Code(("a", "b"), {}), Position.SEVERAL_HEADS, "", ""),
        ("", "", Code(), Position.HEAD, "", ""),
        # Of an image without its sources only the heads are known.
        ("2", "1 2", Code(("3",), None), Position.BEHIND, "", ""),
        ("4", "1 2 3 4", Code(("3",), None), Position.AHEAD, "", "4"),
    ],
)
def test_a_database_is_at_head_behind_ahead_or_elsewhere(
    at: str, line: str, code: Code, position: Position, pending: str, strange: str
) -> None:
    found = compare(Recorded(frozenset(at.split()), tuple(line.split())), code)
    assert (found.position, " ".join(found.pending), " ".join(found.strange)) == (position, pending, strange)
