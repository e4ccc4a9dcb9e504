"""Writing .env: a new one whole and private, one key of an old one without touching the rest."""

from __future__ import annotations

import os
import random
import re
import stat
import threading
from pathlib import Path

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.errors import ConfigError
from stockhelper_cli.machine.init_env import init_env, quote, set_value
from tests.support import ROOT

EXAMPLE = "# top\nPORT=1\nDB_PASSWORD=\nAPI_TOKEN=\nPASSWORD_HINT=\nGIVEN_SECRET=x\n#OTHER_SECRET=\n#LATER=3\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    return tmp_path


def test_init_writes_a_private_file_with_its_secrets_filled_in(root: Path) -> None:
    umask = os.umask(0)
    try:
        result = init_env(root)
    finally:
        os.umask(umask)
    values = load_dotenv(root / ".env")
    assert (result.created, result.generated, result.missing) == (True, ("DB_PASSWORD", "API_TOKEN"), ())
    assert stat.S_IMODE((root / ".env").stat().st_mode) == 0o600
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{31,}", values["DB_PASSWORD"])
    assert values["DB_PASSWORD"] != values["API_TOKEN"]
    assert (values["PORT"], values["PASSWORD_HINT"], values["GIVEN_SECRET"]) == ("1", "", "x")
    assert "#OTHER_SECRET=\n#LATER=3\n" in (root / ".env").read_text()
    assert sorted(path.name for path in root.iterdir()) == [".env", ".env.example"]


def test_the_projects_own_example_gets_its_secrets(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_bytes((ROOT / ".env.example").read_bytes())
    assert init_env(tmp_path).generated == ("POSTGRES_PASSWORD", "APP_DB_PASSWORD", "API_TOKEN")


def test_an_existing_file_stays_and_its_missing_keys_are_named(root: Path) -> None:
    (root / ".env").write_text("PORT=2\nAPI_TOKEN=t\n")
    result = init_env(root)
    assert (result.created, result.missing) == (False, ("DB_PASSWORD", "PASSWORD_HINT", "GIVEN_SECRET"))
    assert (root / ".env").read_text() == "PORT=2\nAPI_TOKEN=t\n"


def test_of_many_at_once_one_writes_and_the_others_find(root: Path) -> None:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(init_env(root).created)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert len(list(root.iterdir())) == 2


def test_a_project_without_an_example_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.env\.example"):
        init_env(tmp_path)


def test_an_unusable_file_is_told_with_its_line(root: Path) -> None:
    (root / ".env").write_text("A=1\nB='open\n")
    with pytest.raises(ConfigError, match=r"\.env:2: "):
        init_env(root)


# --- set_value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".env"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A=1\nKEY=old\nB=2\n", "A=1\nKEY=new\nB=2\n"),
        ("A=1\n#KEY=old\nB=2\n", "A=1\nKEY=new\nB=2\n"),
        ("#KEY=hint\nKEY=old\n", "#KEY=hint\nKEY=new\n"),
        ("A=1\n", "A=1\nKEY=new\n"),
        ("A=1", "A=1\nKEY=new\n"),
        ("", "KEY=new\n"),
        ("export KEY=old\n", "KEY=new\n"),
        ("KEY: old\n", "KEY=new\n"),
        ("\ufeffKEY=old\nA=1\n", "\ufeffKEY=new\nA=1\n"),
        ("A=1\r\nKEY=old\r\nB=2\r\n", "A=1\r\nKEY=new\r\nB=2\r\n"),
        ("A=1\r\n", "A=1\r\nKEY=new\r\n"),
        ("A='x\nKEY=inside\n'\nKEY=old\n", "A='x\nKEY=inside\n'\nKEY=new\n"),
        ("A='x\n#KEY=inside\n'\n#KEY=\n", "A='x\n#KEY=inside\n'\nKEY=new\n"),
        ("KEY='two\nlines' # why\nB=2\n", "KEY=new\nB=2\n"),
        ('KEY="q\\"uo\nte"\nB=2\n', "KEY=new\nB=2\n"),
        ("KEYS=1\nMY_KEY=2\n", "KEYS=1\nMY_KEY=2\nKEY=new\n"),
        ("# it's a comment with one quote\nKEY=old\n", "# it's a comment with one quote\nKEY=new\n"),
        ("A=it's\nKEY=old\nB=isn't\n", "A=it's\nKEY=new\nB=isn't\n"),
    ],
)
def test_one_key_changes_and_nothing_else(path: Path, before: str, after: str) -> None:
    path.write_bytes(before.encode())
    set_value(path, "KEY", "new")
    assert path.read_bytes().decode() == after


def test_mode_stays_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real.env"
    real.write_text("A=1\n")
    real.chmod(0o640)
    (tmp_path / ".env").symlink_to(real)
    set_value(tmp_path / ".env", "A", "2")
    assert (tmp_path / ".env").is_symlink()
    assert real.read_text() == "A=2\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_the_owner_stays_when_root_writes(path: Path) -> None:
    path.write_text("A=1\n")
    os.chown(path, 1234, 2345)
    set_value(path, "A", "2")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", ""),
        ("localhost/stockhelper-postgres:15", "localhost/stockhelper-postgres:15"),
        ("a$b#c d", "'a$b#c d'"),
        ("it's", r"'it\'s'"),
        ("back\\", r'"back\\"'),
        ("\\'$x", r'''"\\'\$x"'''),
    ],
)
def test_values_are_quoted_only_where_they_must_be(value: str, written: str) -> None:
    assert quote(value) == written


def test_whatever_is_set_is_read_again_and_leaves_its_neighbours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # which takes longer than all the rest
    generator = random.Random(15)
    alphabet = "ab=:#$'\"\\ \t{}\n\r%@/?é⅓-_"
    neighbours = {"BEFORE": "b", "AFTER": "a"}
    for _ in range(400):
        value = "".join(generator.choices(alphabet, k=generator.randrange(12)))
        other = "".join(generator.choices(alphabet, k=generator.randrange(12)))
        path.write_bytes(f"BEFORE=b\n#KEY=\nKEY={quote(other)}\nAFTER=a\n".encode())
        assert load_dotenv(path)["KEY"] == other
        set_value(path, "KEY", value)
        assert load_dotenv(path) == {**neighbours, "KEY": value}
        assert [line for line in path.parent.iterdir() if line != path] == []


def test_a_change_that_would_reach_another_key_is_refused(path: Path) -> None:
    path.write_text("KEY=old\nOTHER=${KEY}/x\n")
    with pytest.raises(ConfigError, match="touching other keys"):
        set_value(path, "KEY", "new")
    assert path.read_text() == "KEY=old\nOTHER=${KEY}/x\n"
