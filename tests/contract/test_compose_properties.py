"""The compose model against the real `docker compose` v2, on files that nobody chose.

What both take must be the same to both. Where they differ, it is by one of the rules of `STRICTER`: nothing else may
be refused by us alone, nothing at all may be refused by Compose alone, and nothing may end in a traceback.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from stockhelper_cli.compose import load
from stockhelper_cli.errors import ConfigError
from stockhelper_cli.machine.init_env import quote
from tests.support.compose_cli import docker_compose
from tests.support.compose_inputs import (
    OWN_KEYS,
    SHELL,
    VALUES,
    badly_interpolated,
    documents,
    env_files,
    interpolated,
    projects,
    single_values,
    stacks,
)
from tests.support.properties import JUDGED_EXAMPLES, examples

pytestmark = pytest.mark.compose

ENVIRON = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **SHELL}

#: What we refuse on purpose although Compose takes it: a part of the message, and why.
STRICTER = {
    r"is not supported by stockhelper": "only a subset of the specification is supported",
    r"is refused: ": "it would hand the machine to the container",
    r"outside of quotes needs a shell": "Compose drops the rest of such a command",
    r"is set a second time": "Compose takes the last one of an env file",
    r"the quote that ['\"] opens is not closed": "Compose takes an apostrophe lines below for the missing quote",
    r"has the unknown option": "Compose drops an option of a mount that it does not know without a word",
    r"networks\.\S+: an external one is made elsewhere": "Compose drops all but the name of an external network",
    r"is too large": "Compose makes another number of it",
    r"is mounted already": "Compose drops one of two mounts or refuses both, by how their paths are written",
}

#: What the files of `projects` and `stacks` name.
ENV_FILES = {"one.env": "A=from one\nONE='1'\n", "two.env": 'A=from two\nTWO="$SET"\n'}


@contextmanager
def folder_of(contents: Mapping[str, str]) -> Iterator[Path]:
    """A folder with these files. Its name is always the same, as the project's name is made of it."""
    with tempfile.TemporaryDirectory(prefix="stockhelper-") as scratch:
        folder = Path(scratch) / "project"
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content.encode())
        yield folder


def ours(folder: Path, paths: Sequence[Path]) -> dict[str, Any] | str:
    """Return what we make of files, or the message that refuses them."""
    try:
        return load(folder, files=paths, environ=ENVIRON).config()
    except ConfigError as error:
        return error.message


def judged(contents: Mapping[str, str], files: Sequence[str] = ("compose.yaml",)) -> dict[str, Any] | None:
    """Compare what we make of files with what Compose makes of them, and return it; None if they are refused."""
    for name, content in contents.items():
        note(f"--- {name}\n{content}")
    with folder_of(contents) as folder:
        paths = [folder / name for name in files]
        done = docker_compose(paths, "config", "--format", "json", environ=ENVIRON)
        found = ours(folder, paths)
    if isinstance(found, str):
        assert "\n" not in found
        known = any(re.search(rule, found) for rule in STRICTER)
        assert known or done.returncode != 0, f"only we refuse it: {found}"
        return None
    assert done.returncode == 0, f"only Compose refuses it: {done.stderr}"
    assert found == json.loads(done.stdout)
    return found


def environment(contents: Mapping[str, str], service: Mapping[str, Any]) -> Mapping[str, str | None] | None:
    """Return the environment of a service as both make it, `$` as it is; None if its files are refused."""
    compose = json.dumps({"services": {"a": {"image": "x", **service}}})
    found = judged({"compose.yaml": compose, **contents})
    if found is None:
        return None
    variables = found["services"]["a"].get("environment", {})
    return {key: value if value is None else value.replace("$$", "$") for key, value in variables.items()}


@examples(JUDGED_EXAMPLES)
@given(env_files())
def test_an_env_file_sets_what_it_sets_for_compose(text: str) -> None:
    environment({"vars.env": text}, {"env_file": "vars.env"})


@examples(JUDGED_EXAMPLES)
@given(env_files())
def test_dotenv_sets_what_it_sets_for_compose(text: str) -> None:
    names = sorted(set(re.findall(r"[\w.\[\]-]+", text)))
    environment({".env": text}, {"environment": names})


@examples(JUDGED_EXAMPLES)
@given(st.dictionaries(OWN_KEYS, VALUES, min_size=1, max_size=4))
def test_a_value_that_we_quote_is_read_by_compose(settings: dict[str, str]) -> None:
    """`set_value` writes values so that Compose reads them as they are."""
    text = "".join(f"{key}={quote(value)}\n" for key, value in settings.items())
    assert environment({"vars.env": text}, {"env_file": "vars.env"}) == settings


@examples(JUDGED_EXAMPLES)
@given(st.lists(interpolated(), min_size=1, max_size=6))
def test_variables_in_text_are_replaced_as_by_compose(texts: list[str]) -> None:
    environment({}, {"environment": {f"V{number}": text for number, text in enumerate(texts)}})


@examples(JUDGED_EXAMPLES)
@given(badly_interpolated())
def test_a_form_of_no_variable_is_refused_by_compose_too(text: str) -> None:
    environment({}, {"environment": {"V": text}})


@examples(JUDGED_EXAMPLES)
@given(documents(single_values()))
def test_a_single_value_means_what_it_does_to_compose(text: str) -> None:
    judged({"compose.yaml": text})


@examples(JUDGED_EXAMPLES)
@given(documents(projects()))
def test_a_compose_file_means_what_it_means_to_compose(text: str) -> None:
    judged({"compose.yaml": text, **ENV_FILES})


@examples(JUDGED_EXAMPLES)
@given(stacks())
def test_files_are_merged_as_by_compose(texts: list[str]) -> None:
    contents = {f"{number}.yaml": text for number, text in enumerate(texts, 1)}
    judged({**contents, **ENV_FILES}, [*contents])
