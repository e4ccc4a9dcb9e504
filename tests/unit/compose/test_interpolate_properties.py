"""Variables in any text; that they are replaced as by Compose is shown in tests/contract/test_compose_properties.py."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from stockhelper_cli.compose.interpolate import InterpolationError, interpolate, variables_in
from tests.support.compose_inputs import SHELL, badly_interpolated, interpolated
from tests.support.properties import examples

TEXTS = st.one_of(interpolated(), badly_interpolated(), st.text("$${}{}:-+?ABa_1 \n}", max_size=20))


@examples(300)
@given(TEXTS)
def test_any_text_is_replaced_or_refused_in_one_line(text: str) -> None:
    try:
        interpolate(text, SHELL)
    except InterpolationError as error:
        said = str(error)
    else:
        return
    assert "\n" not in said.partition("is missing a value")[0]


@examples()
@given(st.text())
def test_a_text_with_every_dollar_doubled_stays(text: str) -> None:
    assert interpolate(text.replace("$", "$$"), SHELL) == text


@examples(300)
@given(TEXTS)
def test_a_variable_that_becomes_blank_is_one_of_the_text(text: str) -> None:
    blank: list[str] = []
    with suppress(InterpolationError):
        interpolate(text, SHELL, blank.append)
    assert set(blank) <= set(variables_in(text)) - set(SHELL)


@examples()
@given(TEXTS, st.text("abc é\\\"'", max_size=5))
def test_a_value_is_not_interpolated_again(text: str, value: str) -> None:
    """What a variable holds is put in as it is, whatever dollar signs and braces it has."""
    marked = dict.fromkeys((*SHELL, "MISSING", "A", "B", "a", "_"), f"\x00{value}")
    dollars = dict.fromkeys(marked, f"\x00${{{value}")
    with suppress(InterpolationError):
        assert interpolate(text, dollars) == interpolate(text, marked).replace(f"\0{value}", f"\0${{{value}")
