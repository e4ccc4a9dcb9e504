"""Values that nobody chose, written into env files; that Compose reads them is shown in tests/contract."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.errors import ConfigError
from stockhelper_cli.machine.init_env import quote, set_value
from tests.support.compose_inputs import OWN_KEYS, VALUES, env_files
from tests.support.properties import examples


@examples()
@given(st.lists(st.tuples(OWN_KEYS, VALUES), min_size=1, max_size=5, unique_by=lambda pair: pair[0]))
def test_each_value_is_told_from_the_line_it_begins_in(settings: list[tuple[str, str]]) -> None:
    text, lines = "", {}
    for key, value in settings:
        lines[key] = text.count("\n") + 1
        text += f"{key}={quote(value)}\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        path.write_bytes(text.encode())
        dotenv = load_dotenv(path)
    assert dict(dotenv) == dict(settings)
    assert {key: dotenv.line(key) for key in dotenv} == lines


@examples()
@given(env_files(), OWN_KEYS.filter(str.isidentifier), VALUES)
def test_a_value_that_is_set_is_read_and_others_stay(text: str, key: str, value: str) -> None:
    """Where it cannot be set without touching another key, the file stays as it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        path.write_bytes(text.encode())
        try:
            before = dict(load_dotenv(path))
            set_value(path, key, value)
        except ConfigError:
            assert path.read_bytes() == text.encode()
        else:
            assert dict(load_dotenv(path)) == {**before, key: value}
