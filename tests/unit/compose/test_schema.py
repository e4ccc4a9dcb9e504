"""The quick look at the schema says yes only where jsonschema does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from stockhelper_cli.compose.document import read_documents
from stockhelper_cli.compose.schema import fits, specification

FILES = sorted(Path(__file__).parent.glob("**/*.yaml"))
JUDGE = Draft7Validator(specification())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_fits_is_valid(file: Path) -> None:
    for document in read_documents(file, file.name):
        broken = [
            error for error in JUDGE.iter_errors(document.tree) if error.validator not in ("uniqueItems", "oneOf")
        ]
        assert fits(document.tree, specification()) != bool(broken)


def changed(value: Any, wrong: Any) -> list[Any]:
    """Every variant of a document with one part of it replaced."""
    if isinstance(value, dict):
        inner: list[Any] = [{**value, key: part} for key, entry in value.items() for part in changed(entry, wrong)]
        return [wrong, *inner, {**value, "unheard of": 1}, {**value, "x-any": 1}]
    if isinstance(value, list):
        items = [
            [*value[:index], part, *value[index + 1 :]]
            for index, entry in enumerate(value)
            for part in changed(entry, wrong)
        ]
        return [wrong, *items]
    return [wrong]


def everything() -> dict[str, dict[str, dict[str, Any]]]:
    (document,) = read_documents(Path(__file__).parent / "projects" / "everything.yaml", "f.yaml")
    tree: dict[str, dict[str, dict[str, Any]]] = document.tree
    return tree


def keys() -> Iterator[dict[str, Any]]:
    """Yield documents of one key each: whole ones would be judged anew as a whole for each part that is changed."""
    for section, entries in everything().items():
        for name, entry in entries.items():
            for key, value in entry.items():
                yield {section: {name: {key: value}}}


@pytest.mark.parametrize("wrong", [5, 1.5, "text", True, None, [], {}, ["a", 1], {"a": None}, -5000], ids=str)
def test_it_agrees_with_jsonschema_on_what_is_broken(wrong: Any) -> None:
    for document in keys():
        for variant in changed(document, wrong):
            assert fits(variant, specification()) == JUDGE.is_valid(variant)


def test_it_agrees_with_jsonschema_on_whole_documents() -> None:
    for variant in changed(everything(), "text"):
        assert fits(variant, specification()) == JUDGE.is_valid(variant)


def test_a_keyword_that_it_does_not_know_is_left_to_jsonschema() -> None:
    assert not fits("a", {"const": "a"})
