from __future__ import annotations

import pytest

from stockhelper_cli.compose.interpolate import InterpolationError, interpolate, variables_in

VALUES = {"A": "a", "EMPTY": "", "_under": "u"}

TABLE = {
    "$A": "a",
    "${A}": "a",
    "x$A-${A}y": "xa-ay",
    "$_under": "u",
    "$A1": "",
    "${MISSING}": "",
    "${A:-x}": "a",
    "${EMPTY:-x}": "x",
    "${EMPTY-x}": "",
    "${MISSING:-x}": "x",
    "${MISSING-x}": "x",
    "${MISSING:-}": "",
    "${A:+x}": "x",
    "${EMPTY:+x}": "",
    "${EMPTY+x}": "x",
    "${MISSING+x}": "",
    "${A:?no}": "a",
    "${EMPTY?no}": "",
    "${MISSING:-${EMPTY:-${A}-deep}}": "a-deep",
    "${MISSING:-a} ${MISSING:-b}": "a b",
    '${MISSING:-{"k":{"n":1}}}': '{"k":{"n":1}}',
    "${MISSING:-a:-b?c}": "a:-b?c",
    "$$A": "$A",
    "$$$$": "$$",
    "$${A}": "${A}",
    "a $ b $1 $-": "a $ b $1 $-",
    "no variable": "no variable",
}


@pytest.mark.parametrize("text", TABLE)
def test_every_form(text: str) -> None:
    assert interpolate(text, VALUES) == TABLE[text]


@pytest.mark.parametrize("text", ["${", "${}", "${1}", "${A!x}", "${A", "${ A}", "${A:x}", "${MISSING:-${}"])
def test_a_form_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InterpolationError, match="known form"):
        interpolate(text, VALUES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${MISSING:?say it}", "required variable MISSING is missing a value: say it"),
        ("${EMPTY:?}", "required variable EMPTY is missing a value"),
        ("${MISSING?with $A}", "required variable MISSING is missing a value: with a"),
    ],
)
def test_a_required_variable_is_asked_for_with_its_message(text: str, said: str) -> None:
    with pytest.raises(InterpolationError) as error:
        interpolate(text, VALUES)
    assert str(error.value) == said


def test_the_variables_of_a_text_are_known_without_their_values() -> None:
    assert set(variables_in("$A ${B} ${C:-$D} ${E:?say} $$F $$$G ${H:+${I}}")) == {
        "A",
        "B",
        "C",
        "D",
        "E",
        "G",
        "H",
        "I",
    }


def test_what_becomes_blank_is_told() -> None:
    told: list[str] = []
    interpolate("$B ${C} ${D:-x} $A", VALUES, told.append)
    assert told == ["B", "C"]
