"""Env files that nobody chose; what they mean to Compose is shown in tests/contract/test_compose_properties.py."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stockhelper_cli.compose.dotenv import Dotenv, load_dotenv
from stockhelper_cli.errors import ConfigError
from tests.support.compose_inputs import SHELL, env_files
from tests.support.properties import examples

#: Bytes of any kind, near to what an env file has.
BYTES = st.one_of(
    st.binary(max_size=40),
    st.text("AB=:'\"\\$ {}-#\n\r\t\x85\xa0\u2028é[]0", max_size=40).map(str.encode),
    env_files().map(str.encode),
)


def loaded(raw: bytes) -> Dotenv:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        path.write_bytes(raw)
        return load_dotenv(path, SHELL, shown=".env")


@examples(300)
@given(BYTES)
def test_any_file_is_read_or_refused_with_its_line(raw: bytes) -> None:
    try:
        dotenv = loaded(raw)
    except ConfigError as error:
        refusal = re.match(r"\.env:(\d+): [^\n]+\Z", error.message)
    else:
        refusal = None
        assert all(1 <= dotenv.line(key) <= raw.count(b"\n") + 1 for key in dotenv)
        assert all(isinstance(value, str) for value in dotenv.values())
        return
    assert refusal is not None
    assert 1 <= int(refusal[1]) <= raw.count(b"\n") + 1
