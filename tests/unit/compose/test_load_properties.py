"""Compose files that nobody chose, loaded without any engine.

That they mean what they mean to Compose is shown in tests/contract/test_compose_properties.py.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from stockhelper_cli.compose import load
from stockhelper_cli.errors import ConfigError
from tests.support.compose_inputs import SHELL, documents, projects, stacks
from tests.support.properties import examples

ENVIRON = {"HOME": "/home/somebody", **SHELL}


def loaded(*texts: str) -> dict[str, Any] | str:
    """Return what files mean together, or the message that refuses them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        folder.mkdir()
        for name in ("one.env", "two.env"):
            (folder / name).write_text("A=1\n")
        paths = [folder / f"{number}.yaml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_bytes(text.encode())
        try:
            config = load(folder, files=paths, environ=ENVIRON).config()
        except ConfigError as error:
            return error.message
        # The same files in another folder mean other paths.
        shown: dict[str, Any] = json.loads(json.dumps(config).replace(scratch, "/scratch"))
        return shown


@examples(50)
@given(stacks())
def test_any_files_are_loaded_or_refused_with_file_and_line(texts: Sequence[str]) -> None:
    found = loaded(*texts)
    if isinstance(found, str):
        refusal = re.match(r"([0-2])\.yaml:(\d+): [^\n]+\Z", found)
        assert refusal is not None
        assert 1 <= int(refusal[2]) <= texts[int(refusal[1])].count("\n") + 1


@examples(50)
@given(documents(projects()))
def test_what_is_shown_means_the_same_as_the_file(text: str) -> None:
    """`config` prints a compose file that stands for the one that it was made of."""
    found = loaded(text)
    # A limit of 0 is shown as Go writes it, as a pair without entries, which is no limit to the specification.
    # One without services is none: Compose prints it, and does not read it again either; nor -1 as text.
    assume(not isinstance(found, str) and found["services"])
    assume(not re.search('"ulimits"|"memswap_limit": "-1"', json.dumps(found)))
    assert loaded(json.dumps(found)) == found


@examples(50)
@given(documents(projects()), st.sampled_from(["{}", "services: {}", "services: {a: {}}", "x-new: {}"]))
def test_a_file_that_says_nothing_changes_nothing(text: str, nothing: str) -> None:
    found = loaded(text)
    assume(not isinstance(found, str))
    again = loaded(text, nothing)
    assert isinstance(again, dict)
    again.pop("x-new", None)
    assert again == found
