"""Env files by Compose's rules; that they are Compose's is shown in tests/contract/test_compose_model.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.errors import ConfigError

SHELL = {"SHELL_HAS": "from the shell", "EMPTY": ""}

READ = {
    "A=1": {"A": "1"},
    "A = 1 ": {"A": "1"},
    "A: 1": {"A": "1"},
    "export A=1\nexport\tB=2": {"A": "1", "B": "2"},
    "A=": {"A": ""},
    "A=1 # comment": {"A": "1"},
    "A=1#2": {"A": "1#2"},
    "A= #2": {"A": "#2"},
    "# comment\n\n  # another\nA=1": {"A": "1"},
    "A=a=b=c": {"A": "a=b=c"},
    "A='$SHELL_HAS \\n # x'": {"A": "$SHELL_HAS \\n # x"},
    "A='it\\'s'": {"A": "it's"},
    "A='one\ntwo'\nB=3": {"A": "one\ntwo", "B": "3"},
    'A="x # y" # z': {"A": "x # y"},
    'A="\\n\\t\\\\ \\" \\$SHELL_HAS $$"': {"A": '\n\t\\ " $SHELL_HAS $'},
    'A="\\0101 \\012 \\x41 \\q"': {"A": "A \\12 \\x41 \\q"},
    "A=$SHELL_HAS": {"A": "from the shell"},
    'A="${SHELL_HAS}!"': {"A": "from the shell!"},
    "A=1\nB=$A-${C:-default}": {"A": "1", "B": "1-default"},
    "A=${EMPTY:-x}${EMPTY-y}": {"A": "x"},
    "A=a$b#c": {"A": "a#c"},
    "SHELL_HAS": {"SHELL_HAS": "from the shell"},
    "SHELL_HAS\nNOBODY_HAS\nA=1": {"SHELL_HAS": "from the shell", "A": "1"},
    "\ufeffA=1\r\nB='2'\r\n": {"A": "1", "B": "2"},
    "a.b-c[0]=1": {"a.b-c[0]": "1"},
    "Ä=é": {"Ä": "é"},
    "": {},
}


def write(folder: Path, text: str) -> Path:
    path = folder / "some.env"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("text", READ)
def test_a_file_is_read_by_composes_rules(text: str, tmp_path: Path) -> None:
    assert dict(load_dotenv(write(tmp_path, text), SHELL)) == READ[text]


REFUSED = {
    "A=1\nB=2\nA=3": "some.env:3: A is set a second time; the first is in line 1",
    "A='1\nB=2": "some.env:1: the quote that ' opens is not closed",
    'A=1\n\n"B"=1': "some.env:3: unexpected character '\"' in a variable's name",
    "A B=1": "some.env:1: a name holds a space",
    "=1": "some.env:1: a value without a name",
    "A=${": "some.env:1: ${ does not begin a variable of a known form; write $$ for a dollar sign",
    "\nA=${B:?needed for x}": "some.env:2: required variable B is missing a value: needed for x",
    "A=1\nB=\0": "some.env:2: holds a NUL byte; it is not a text file",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_dotenv(write(tmp_path, text), shown="some.env")
    assert error.value.message == REFUSED[text]
    assert error.value.code == "config.env"


@pytest.mark.parametrize(
    "text", ["A='hunter2", "A=hunter2${", "A=x\nhunter2!=1", "A='x'\nhunter2 y=1", "A='b'hunter2$"]
)
def test_a_refusal_never_tells_a_value(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_dotenv(write(tmp_path, text))
    assert "hunter2" not in f"{error.value.message}{error.value.cause}"


@pytest.mark.parametrize(("raw", "said"), [(b"\xff\xfeA\0", "is UTF-16"), (b"A=1\nB=\xff", ":2: is not UTF-8")])
def test_only_utf8_is_text(raw: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "some.env"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=said):
        load_dotenv(path)


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder") as folder:
        load_dotenv(tmp_path)
    with pytest.raises(ConfigError, match="no such file") as missing:
        load_dotenv(tmp_path / "none")
    assert (folder.value.code, missing.value.code) == ("config.env", "config.env_missing")


def test_each_key_knows_its_line(tmp_path: Path) -> None:
    dotenv = load_dotenv(write(tmp_path, "# one\nA='x\ny'\n\nexport B=1\nC=$MISSING"))
    assert [dotenv.line(key) for key in "ABC"] == [2, 5, 6]
    assert dotenv.path == tmp_path / "some.env"
    assert dotenv.unset == ("MISSING",)
    with pytest.raises(KeyError):
        dotenv.line("D")
