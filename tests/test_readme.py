"""The README is true: its tables are those of the code, and its commands are the command line's."""

from __future__ import annotations

import re

from stockhelper_cli.compose import keys
from stockhelper_cli.doctor.catalogue import all_checks
from stockhelper_cli.errors import ERROR_CODES
from stockhelper_cli.main import VERBS
from tests.support import ROOT
from tests.support.command_line import global_options, verbs
from tests.support.readme import README, rows, section


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_every_verb_is_in_the_table_and_every_row_is_a_verb() -> None:
    named = [
        re.match(r"stockhelper ((?:images |backup |db |data )?[a-z-]+)", quoted(row[0])[0]) for row in rows("Commands")
    ]
    assert {found[1] for found in named if found} == {verb for verb, _ in verbs()}
    assert all(named)


def test_every_verb_has_a_line_in_the_list_of_verbs() -> None:
    # 80 columns, less the names and what is left free beside them.
    assert {name: line for name, (_, line) in VERBS.items() if name != "ps" and not 0 < len(line) <= 64} == {}


def test_the_global_options_are_those_of_the_command_line() -> None:
    declared = frozenset().union(*global_options().values())
    sentence = section("Commands").partition("Before the verb:")[2]
    for option in re.findall(r"`(--?[a-zA-Z-]+)", sentence):
        assert option in declared | {"--help"}, option


def test_the_exit_codes_are_those_of_the_table_in_the_code() -> None:
    told = {code: int(row[0]) for row in rows("Exit codes") if len(row) > 2 for code in quoted(row[2])}
    assert told == {code: int(exit_code) for code, exit_code in ERROR_CODES.items()}


def test_the_checks_are_those_of_doctor() -> None:
    told = {row[0].strip("`"): (row[1], row[2].rstrip("| ")) for row in rows("Checks")}
    assert told == {check.id: (check.title, check.fixes) for check in all_checks()}


def test_the_settings_are_those_of_the_example() -> None:
    example = (ROOT / ".env.example").read_text()
    known = set(re.findall(r"^#?([A-Z_]+)=", example, re.M)) | {"COMPOSE_PROJECT_NAME"}
    assert {key for row in rows("Settings") for key in quoted(row[0])} == known


def test_the_compose_keys_are_those_of_the_tables_in_the_code() -> None:
    told = {row[0].strip("`"): set(quoted(row[1])) for row in rows("Compose files")}
    tables = {
        "service": keys.SERVICE,
        "build": keys.BUILD,
        "healthcheck": keys.HEALTHCHECK,
        "network": keys.NETWORK,
        "volume": keys.VOLUME,
        "secret": keys.SECRET,
    }
    for name, table in tables.items():
        assert told[name] == {key.name for key in table.keys} - {"privileged"}, name


def test_make_targets_that_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\$ make ([a-z]+)", README)) <= targets


def test_files_that_it_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
