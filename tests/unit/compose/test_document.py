"""YAML as Compose reads it, with every key's place."""

from __future__ import annotations

from typing import Any

import pytest

from stockhelper_cli.compose.document import Map, locate, parse_documents, resolve_scalar
from stockhelper_cli.errors import ConfigError


def tree(text: str) -> Map:
    (document,) = parse_documents(text, "f.yaml")
    return document.tree


SCALARS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "FALSE": False, "yes": "yes", "on": "on"}
SCALARS |= {"5": 5, "+5": 5, "-0": 0, "0755": 493, "0o17": 15, "0x1F": 31, "0b11": 3, "1_000": 1000, "-0755": -493}
SCALARS |= {"1.50": 1.5, "08": 8.0, ".5": 0.5, "1e3": 1000.0, "1.": 1.0, "-.INF": float("-inf"), "1:30": "1:30"}
SCALARS |= {"18446744073709551615": 2**64 - 1, "99999999999999999999": 1e20, "-": "-", "...": "...", "1.2.3": "1.2.3"}


@pytest.mark.parametrize("text", SCALARS)
def test_a_plain_scalar_means_what_it_means_to_go_yaml(text: str) -> None:
    found = resolve_scalar(text)
    assert (type(found), found) == (type(SCALARS[text]), SCALARS[text])


def test_quotes_and_tags_decide() -> None:
    found = tree("a: '5'\nb: !!str 5\nc: !!float 5\nd: |\n  5\ne: !!int '5'\nf: ! 5\n")
    assert found == {"a": "5", "b": "5", "c": 5.0, "d": "5\n", "e": 5, "f": "5"}


def test_merge_keys_give_way_to_what_is_written() -> None:
    found = tree("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  c: 3\n  <<: [*x, *y]\n")
    assert found["z"] == {"a": 1, "b": 1, "c": 3}
    assert str(locate(found, ["z", "c"])) == "f.yaml:4"
    assert str(locate(found, ["z", "a"])) == "f.yaml:1"


def test_every_key_and_entry_has_its_line() -> None:
    found = tree("a:\n  b:\n    - x\n\n    - y: 1\n      z: 2\n")
    places = {
        path: str(locate(found, path)) for path in (("a",), ("a", "b", 0), ("a", "b", 1, "z"), ("a", "none", "x"))
    }
    assert places == {
        ("a",): "f.yaml:1",
        ("a", "b", 0): "f.yaml:3",
        ("a", "b", 1, "z"): "f.yaml:6",
        ("a", "none", "x"): "f.yaml:1",
    }
    assert locate(found, ("nothing",)) is None


def test_reset_and_override_tell_what_they_replace() -> None:
    (document,) = parse_documents("a: {b: !reset null, c: !override [1], d: 2}", "f.yaml")
    assert document.tree == {"a": {"c": [1], "d": 2}}
    assert document.replaced == (("a", "b"), ("a", "c"))


def test_several_documents_are_several() -> None:
    assert [document.tree for document in parse_documents("a: 1\n---\nb: 2\n", "f.yaml")] == [{"a": 1}, {"b": 2}]


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"b{n}: &b{n} [{','.join(['*' + (f'b{n - 1}' if n else 'a')] * 10)}]\n" for n in range(8)
)
REFUSED = {
    "a:\n\tb: 1": "f.yaml:2: is not YAML: a tab indents this line; YAML wants spaces",
    "a: 1\nb: 2\na: 3": "f.yaml:3: a is set a second time; the first is in line 1",
    "s:\n  a: {x: 1,\n  x: 2}": "f.yaml:3: s.a.x is set a second time; the first is in line 2",
    "a: {b: 1": "f.yaml:1: is not YAML: while parsing a flow mapping did not find expected ',' or '}'",
    "a: &a\n  b: *a": "f.yaml:2: the alias *a stands before or inside of its anchor",
    "a: *b": "f.yaml:1: the alias *b stands before or inside of its anchor",
    LAUGHS: "f.yaml:5: aliases make this file larger than 100000 values",
    "a: " + "[" * 100 + "]" * 100: "f.yaml:1: nested more than 64 levels deep",
    "a: !foo b": "f.yaml:1: the tag !foo is not supported",
    "a: !!binary aGk=": "f.yaml:1: 'aGk=' cannot be read as !!binary",
    "a:\n  1: x": "f.yaml:2: a: the key 1 is not text; put it in quotes",
    "[a]: x": "f.yaml:1: the key a collection is not text; put it in quotes",
    "a: 2001-01-01": "f.yaml:1: 2001-01-01 is a date in YAML; put it in quotes",
    "a:\n  <<: 1": "f.yaml:2: a: << merges mappings only",
    "[1]": "f.yaml:1: the top level must be a mapping",
    "a: 1\nb: '\x01'": "f.yaml:2: is not YAML: unacceptable character #x0001: control characters are not allowed",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_read_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        list(parse_documents(text, "f.yaml"))
    assert error.value.message == REFUSED[text]
