"""A secret of any signs, written in any of the promised ways, in any place: it is never shown."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import yaml
from hypothesis import given
from hypothesis import strategies as st

from stockhelper_cli.secrets import Secrets
from tests.support.properties import examples

SIGNS = "ab1XY \\'\"$%&<>@:/?#=+,.;_!{}()[]`|~^-é密😀"
#: Shorter ones are masked under their name only, and so are `true` and its like. A star is what the mask is made of.
SECRETS = (
    st.one_of(
        st.text(SIGNS, min_size=4, max_size=16), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=4)
    )
    .map(str.strip)
    .filter(lambda text: len(text) >= 4 and "*" not in text and text.lower() not in ("true", "false", "none", "null"))
)
AROUND = st.text("ab:=/ \n\"'@$-%", max_size=6)


def go_json(text: str) -> str:
    """Return a text in the JSON of the engine, and of every other program in Go."""
    written = json.dumps(text, ensure_ascii=False)
    return re.sub("[<>&]", lambda sign: f"\\u{ord(sign[0]):04x}", written)


def in_yaml(value: str) -> str:
    """Return a text as YAML has it, without the quotes that it may be in."""
    written = yaml.safe_dump(value, allow_unicode=True, width=4096).removesuffix("...\n").removesuffix("\n")
    return written[1:-1] if written[0] in "'\"" else written


WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in an URL": quote,
    "in an URL's query": quote_plus,
    "in an URL's password": lambda value: quote(value, safe=""),
    "in an URL, small": lambda value: re.sub("%..", lambda code: code[0].lower(), quote(value, safe="")),
    "in JSON": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "in ASCII's JSON": lambda value: json.dumps(value)[1:-1],
    "in Go's JSON": lambda value: go_json(value)[1:-1],
    "in JSON within JSON": lambda value: json.dumps(json.dumps(value))[3:-3],
    "in Go's JSON within JSON": lambda value: go_json(go_json(value))[3:-3],
    "in YAML": in_yaml,
    "in Python": lambda value: repr(value)[1:-1],
    "in SQL": lambda value: value.replace("'", "''"),
    "in a shell": lambda value: shlex.quote(value).strip("'"),
    "in a compose file": lambda value: value.replace("$", "$$"),
}


@examples(300)
@given(SECRETS, st.sampled_from(sorted(WRITTEN)), AROUND, AROUND)
def test_a_secret_never_stays_however_it_is_written(value: str, way: str, before: str, after: str) -> None:
    written = WRITTEN[way](value)
    shown = Secrets({"APP_PASSWORD": value}).text(f"{before}{written}{after}")
    assert written not in shown


@examples()
@given(SECRETS, st.text(SIGNS, max_size=5), st.text(SIGNS, max_size=5), st.booleans())
def test_no_character_of_a_secret_stays_in_base64(value: str, before: str, after: str, for_urls: bool) -> None:
    """Of base64 those characters are left that a secret shares with its neighbours, one at each end."""
    encode = base64.urlsafe_b64encode if for_urls else base64.b64encode
    whole = encode(f"{before}{value}{after}".encode()).decode()
    first, last = len(before.encode()) * 8, len(f"{before}{value}".encode()) * 8
    own = whole[-(-first // 6) : last // 6]
    assert own not in Secrets({"APP_PASSWORD": value}).text(f"Basic: {whole}")


@st.composite
def configurations(draw: st.DrawFn) -> tuple[str, Any]:
    """Draw a secret, and a configuration in which it stands where secrets do."""
    value = draw(SECRETS)
    # A variable, as in a shell's command, is none; and unquoted a word ends where a shell's does.
    word = re.fullmatch(r"(?!\$+[\w{])[^\s\"'&;,]+", value)
    tree: Any = draw(
        st.sampled_from(
            [
                {"APP_PASSWORD": value},
                {"services": {"app": {"environment": {"API_TOKEN": value, "OTHER": "plain"}}}},
                {"Env": ["PATH=/bin", f"DB_PASSWORD={value}"]},
                {"command": ["tool", "--password", value, "--at", "home"]},
                {"DATABASE_URL": f"postgresql://me:{quote(value, safe='')}@db:5432/stocks"},
                {"labels": [{"org.example.api-key": value}], "note": f"it is {value}"},
                *(
                    [{"command": f"tool --secret={value} --at home"}, ["sh", "-c", f"tool --token {value}"]]
                    if word
                    else []
                ),
            ]
        )
    )
    return value, tree


@examples()
@given(configurations(), AROUND, AROUND)
def test_a_secret_is_learned_wherever_it_stands(drawn: tuple[str, Any], before: str, after: str) -> None:
    value, tree = drawn
    secrets = Secrets(tree)
    shown = json.dumps(secrets.tree(tree), ensure_ascii=False)
    for written in (value, json.dumps(value, ensure_ascii=False)[1:-1], quote(value, safe="")):
        assert written not in shown
    assert value not in secrets.text(f"{before}{value}{after}")


@examples()
@given(st.lists(SECRETS, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=4), AROUND)
def test_several_secrets_side_by_side_all_go(values: list[str], order: list[int], between: str) -> None:
    text = between.join(values[number % len(values)] for number in order)
    shown = Secrets({f"S{number}_TOKEN": value for number, value in enumerate(values)}).text(text)
    for value in values:
        assert value not in shown


@examples()
@given(st.lists(SECRETS, min_size=1, max_size=4))
def test_each_line_of_a_secret_of_several_goes(lines: list[str]) -> None:
    """A line by itself is a secret if it is long enough to be one, as a key's lines are."""
    secrets = Secrets({"TLS_PRIVATE_KEY": "\n".join(lines)})
    for line in lines:
        assert len(line) < 8 or line not in secrets.text(f"read {line} of it")
