"""What counts as a secret, and in how many ways it can be written and is masked all the same."""

from __future__ import annotations

import base64
import json
import re
import shlex
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml

from stockhelper_cli.secrets import MASK, Secrets

HARD = "c@n'a\"r$y 密/ä+b\\q"


def told(value: str) -> Secrets:
    """Return what knows one secret, by its name."""
    return Secrets({"APP_PASSWORD": value})


def go_json(value: object) -> str:
    """Return a value in the JSON of programs in Go, the engine among them."""
    return re.sub("[<>&]", lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(value))


@pytest.mark.parametrize("value", ["canary-plain", HARD, "a/b:c@d?e#f", "$$dollars$", "l'été", "a<b>&c"])
@pytest.mark.parametrize(
    "written",
    [
        str,
        repr,
        quote,
        quote_plus,
        shlex.quote,
        json.dumps,
        lambda value: yaml.safe_dump(value, allow_unicode=True),
        lambda value: quote(value, safe=""),
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: json.dumps(json.dumps({"log": value})),
        go_json,
        lambda value: go_json(go_json({"log": value})),
        lambda value: value.replace("$", "$$"),
        lambda value: "'" + value.replace("'", "''") + "'",
    ],
)
def test_a_secret_is_masked_however_it_is_written(value: str, written: Any) -> None:
    assert set(told(value).text(written(value)).strip()) <= {*MASK, *"\"'\\{}log: \n."}


@pytest.mark.parametrize("before", ["", "u", "u:", "user:", "user::"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("value", ["canary-plain-value", HARD])
def test_a_secret_is_masked_within_base64_wherever_it_begins(before: str, encode: Any, value: str) -> None:
    encoded = encode(f"{before}{value}and more".encode()).decode()
    shown = told(value).text(f"header {encoded}.")
    assert MASK in shown
    # What is left of it are the bits that it shares with its neighbours' characters.
    assert len(shown) < len(f"header {encoded}.") - len(value.encode()) * 8 // 6 + len(MASK) + 2


@pytest.mark.parametrize(
    "tree",
    [
        {"DATABASE_URL": "postgresql://me:canary-value@db/stocks"},
        ["--password", "canary-value"],
        ["API_TOKEN=canary-value"],
        ["sh", "-c", "tool --token=canary-value --at home"],
        ["sh", "-c", "tool --api-key canary-value"],
        {"labels": {"org.example.token": "canary-value"}},
        {"deep": [{"secret": "canary-value"}]},
        {"secret": "a\n  canary-value  \nb"},
    ],
)
def test_a_secret_is_learned_from_where_configurations_have_them(tree: Any) -> None:
    secrets = Secrets(tree)
    assert "canary" not in json.dumps(secrets.tree(tree))
    assert secrets.text("it said canary-value once") == f"it said {MASK} once"


def test_a_password_of_a_url_is_known_decoded_too() -> None:
    assert Secrets({"PROXY": "http://me:p%40ss%2Fword@proxy"}).text("p@ss/word") == MASK


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("connect to amqp://me:hunter2@queue:5672/x", f"connect to amqp://me:{MASK}@queue:5672/x"),
        ("GET /?api_key=hunter2&page=2", f"GET /?api_key={MASK}&page=2"),
        ('{"db_password": "hunter2", "n": 1}', f'{{"db_password": "{MASK}", "n": 1}}'),
        ("Authorization: Basic bWU6aHVudGVyMg==", f"Authorization: Basic {MASK}"),
        ("ALTER ROLE me PASSWORD 'hunter2''s'", f"ALTER ROLE me PASSWORD '{MASK}'"),
        ("SCRAM-SHA-256$4096:c2FsdA==$a2V5:a2V5", f"SCRAM-SHA-256${MASK}"),
        ("run --password hunter2 now", f"run --password {MASK} now"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", f"-----BEGIN PRIVATE KEY-----{MASK}-----END"),
    ],
)
def test_text_that_looks_like_a_secret_is_masked(line: str, shown: str) -> None:
    """Text that looks like a secret is masked, even if the secret is not known."""
    assert Secrets().text(line).startswith(shown)


@pytest.mark.parametrize(
    "line",
    [
        'FATAL:  password authentication failed for user "stockhelper"',
        "http://127.0.0.1:8000/api/v1/health",
        'PGPASSWORD="$POSTGRES_PASSWORD" psql',
        "a token is needed; stockhelper init writes one",
        "2026-11-24T10:00:00.000000000Z ready for user@example",
    ],
)
def test_what_is_no_secret_stays_readable(line: str) -> None:
    assert Secrets({"POSTGRES_PASSWORD": "canary-value", "OTHER": "user"}).text(line) == line


@pytest.mark.parametrize("value", ["abc", "true", "None"])
def test_a_value_that_says_nothing_is_masked_under_its_name_only(value: str) -> None:
    secrets = told(value)
    assert secrets.tree({"APP_PASSWORD": value, "NOTE": f"it is {value}"}) == {
        "APP_PASSWORD": MASK,
        "NOTE": f"it is {value}",
    }


def test_numbers_and_empty_values_are_left_alone() -> None:
    tree = {"API_TOKEN": "", "port": 5432, "on": True, "none": None}
    assert Secrets({"X_TOKEN": "5432"}).tree(tree) == tree


@pytest.mark.parametrize("piece", ["a", "a.", "a1", "--a-", "password", "x://", "token ", "-----BEGIN ", "='\""])
def test_a_line_of_one_long_word_takes_no_time(piece: str) -> None:
    """A log may have a megabyte without a blank. Looked through from each of its characters on, it took hours."""
    line = piece * (200_000 // len(piece))
    assert Secrets({"APP_PASSWORD": "canary-value"}).text(f"{line} canary-value") == f"{line} {MASK}"


def test_the_longer_of_two_secrets_leaves_nothing_of_it() -> None:
    assert Secrets({"A_TOKEN": "canary", "B_TOKEN": "canary-and-more"}).text("canary-and-more") == MASK
