"""Scalars as Go reads and writes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stockhelper_cli.compose import values

DURATIONS = {
    "90s": "1m30s",
    "1h": "1h0m0s",
    "1500ms": "1.5s",
    "0": "0s",
    "0s": "0s",
    "1m30.5s": "1m30.5s",
    "100us": "100µs",
    "15ns": "15ns",
    "2d": "48h0m0s",
    "1w1h": "169h0m0s",
    "1.5h": "1h30m0s",
    "24h": "24h0m0s",
    ".5s": "500ms",
    "-1s": "-1s",
}


@pytest.mark.parametrize("text", DURATIONS)
def test_a_duration_is_written_in_gos_style(text: str) -> None:
    assert values.format_duration(values.parse_duration(text)) == DURATIONS[text]


@pytest.mark.parametrize("text", ["", "10", "1y", "s", ".s", "1 s", "one", "1s2", "１s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        values.parse_duration(text)


SIZES = {"1g": 2**30, "512m": 2**29, "1.5k": 1536, "64MB": 2**26, "2GiB": 2**31, "100": 100, "50b": 50, "1 gb": 2**30}


@pytest.mark.parametrize("text", SIZES)
def test_a_size_counts_in_1024s(text: str) -> None:
    assert values.parse_size(text) == SIZES[text]


@pytest.mark.parametrize("value", ["1z", "", "g", "1 2", "-1", "1ib", "１g", 1.5, True, None])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        values.parse_size(value)


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (values.parse_duration, "2562047h47m16.9s"),
        (values.parse_size, "9999999p"),
        (values.parse_integer, "-9223372036854775809"),
        (values.parse_integer, 1e19),
        (values.parse_float, 3.5e38),
    ],
)
def test_a_number_that_go_cannot_hold_is_refused(reader: Callable[[object], object], value: object) -> None:
    """Compose refuses some of these, and wraps the others around to numbers that nobody wrote."""
    with pytest.raises(ValueError, match="too large"):
        reader(value)


def test_minus_one_is_without_a_limit() -> None:
    assert values.parse_size(-1) == -1


PRINTED = {
    1.5: "1.5",
    1000.0: "1000",
    1e6: "1e+06",
    12345678.5: "1.23456785e+07",
    1e21: "1e+21",
    1e-7: "1e-07",
    0.0: "0",
}
PRINTED |= {float("inf"): "+Inf", -0.25: "-0.25", 100000.0: "100000", 0.0001: "0.0001"}


@pytest.mark.parametrize("number", PRINTED)
def test_a_number_is_printed_as_go_prints_it(number: float) -> None:
    assert values.format_float(number) == PRINTED[number]


WRITTEN = {0.3: "0.3", 2.0: "2", 1e-7: "1e-7", 1e21: "1e+21", 1e20: "100000000000000000000", 0.000001: "0.000001"}


@pytest.mark.parametrize("number", WRITTEN)
def test_a_number_is_written_to_json_as_go_writes_it(number: float) -> None:
    assert values.format_json_float(number) == WRITTEN[number]


def test_float32_is_shown_with_the_fewest_digits() -> None:
    """A single-precision number is shown with the fewest digits that identify it."""
    assert values.shortest_float32(0.3) == 0.3
    assert values.shortest_float32(1.23456789) == 1.2345679
    assert values.parse_float("0.50") == 0.5


COMMANDS = {
    "": [],
    "one two": ["one", "two"],
    "  one\t two\n": ["one", "two"],
    "'a b' \"c d\"": ["a b", "c d"],
    "a\\ b": ["a b"],
    "''": [""],
    "a''b": ["ab"],
    '"a \\" b"': ['a " b'],
    "'a\\b'": ["a\\b"],
    "\"a;b\" 'c|d'": ["a;b", "c|d"],
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_split_into_words(line: str) -> None:
    assert values.split_command(line) == COMMANDS[line]


@pytest.mark.parametrize("line", ["a && b", "a; b", "a > b", "$(a)", "`a`", "'a", '"a', "a\\"])
def test_a_command_that_compose_would_cut_off_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"shell|inside"):
        values.split_command(line)
