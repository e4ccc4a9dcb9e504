"""YAML that nobody chose; what it means to Compose is shown in tests/contract/test_compose_properties.py."""

from __future__ import annotations

import re
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from stockhelper_cli.compose.document import Map, Position, Seq, parse_documents
from stockhelper_cli.errors import ConfigError
from tests.support.compose_inputs import LAYOUTS, Layout, documents, projects
from tests.support.properties import examples

NAMES = st.text("abcxyz-_.A1", min_size=1, max_size=6).filter(lambda name: not re.match(r"[-.\d_]", name))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff"), max_size=12),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(NAMES, TREES, min_size=1, max_size=4)
TEXTS = st.one_of(
    st.text("ab: -#'\"{}[],&*!|>%@`\n\t?<~0.1", max_size=40),
    st.text(max_size=20),
    MAPPINGS.map(lambda tree: str(yaml.safe_dump(tree))).flatmap(
        lambda text: st.tuples(st.integers(0, len(text)), st.text("\t:&*'\"{[-!", max_size=2)).map(
            lambda cut: text[: cut[0]] + cut[1] + text[cut[0] :]
        )
    ),
)


def positions(tree: Any) -> list[Position]:
    """Return where everything in a tree was written."""
    if isinstance(tree, Map):
        return [*tree.at.values(), *(place for entry in tree.values() for place in positions(entry))]
    if isinstance(tree, Seq):
        here = [place for place in tree.at if place is not None]
        return [*here, *(place for entry in tree for place in positions(entry))]
    return []


@examples(300)
@given(TEXTS)
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    count = len(re.split("\r\n|[\n\r\x85\u2028\u2029]", text))
    try:
        trees = [document.tree for document in parse_documents(text, "file")]
    except ConfigError as error:
        refusal = re.match(r"file:(\d+): [^\n]+\Z", error.message)
    else:
        assert all(place.file == "file" and 1 <= place.line <= count for tree in trees for place in positions(tree))
        return
    assert refusal is not None
    assert 1 <= int(refusal[1]) <= count


@examples()
@given(MAPPINGS, st.booleans())
def test_what_a_program_writes_as_yaml_is_read_again(tree: dict[str, Any], flow: bool) -> None:
    text = yaml.safe_dump(tree, allow_unicode=True, default_flow_style=flow)
    (document,) = parse_documents(text, "file")
    assert document.tree == tree


@examples()
@given(MAPPINGS, LAYOUTS)
def test_what_people_write_as_yaml_is_read_as_it_is_meant(tree: dict[str, Any], layout: Layout) -> None:
    text = layout.document(tree)
    (document,) = parse_documents(text, "file")
    assert document.tree == tree


@examples()
@given(documents(projects()))
def test_each_key_is_known_with_the_line_it_stands_in(text: str) -> None:
    lines = text.splitlines()
    (document,) = parse_documents(text, "file")
    for name, place in document.tree["services"].at.items():
        assert name in lines[place.line - 1]
