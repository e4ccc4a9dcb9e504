"""Variables in text: `$NAME`, `${NAME}`, `${NAME:-default}` and their relatives.

The rules are those of the Compose specification's chapter "Interpolation", in detail as Compose 2.40 applies them:

    $$               a dollar sign
    $A  ${A}         the value, blank with a warning if unset
    ${A:-x}  ${A-x}  x if unset or empty / if unset
    ${A:+x}  ${A+x}  x if set and not empty / if set
    ${A:?x}  ${A?x}  refused with the message x if unset or empty / if unset

Defaults and messages are interpolated in turn. A lone `$`, and one before anything that cannot start a name, stays;
`${` that is not one of these forms is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

#: The greedy default reaches to the last brace of the line; `_closing_brace` finds the one that belongs to it.
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[_A-Za-z][_A-Za-z0-9]*)"
    r"|\{(?:(?P<braced>[_A-Za-z][_A-Za-z0-9]*(?::?[-+?].*)?)\}|(?P<invalid>)))"
)
_NAMED = re.compile(r"\$(?:\$|\{?(?P<name>[_A-Za-z][_A-Za-z0-9]*))")
_BRACED = re.compile(r"(?P<name>[_A-Za-z][_A-Za-z0-9]*)(?P<operator>:?[-+?])(?P<word>.*)", re.DOTALL)


class InterpolationError(ValueError):
    """A text that cannot be interpolated; the message says why in one line."""


def variables_in(text: str) -> list[str]:
    """Return the names of the variables that a text mentions, those of a default included."""
    return [match["name"] for match in _NAMED.finditer(text) if match["name"]]


def interpolate(text: str, values: Mapping[str, str], unset: Callable[[str], None] = lambda name: None) -> str:
    """Return `text` with its variables replaced; `unset` is told each name that became blank.

    Raises `InterpolationError` for a form that is not one, and for a required variable without a value.
    """
    if "$" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        whole = match.group()
        end = _closing_brace(whole)
        rest = "" if end is None else whole[end + 1 :]
        found = _VARIABLE.match(whole if end is None else whole[: end + 1])
        if found is None or found["invalid"] is not None:
            # The text is not told: in an env file it may be a secret.
            raise InterpolationError("${ does not begin a variable of a known form; write $$ for a dollar sign")
        if found["escaped"]:
            return "$"
        if found["named"]:
            return _value(found["named"], values, unset)
        return _braced(found["braced"], values, unset) + interpolate(rest, values, unset)

    return _VARIABLE.sub(replace, text)


def _braced(content: str, values: Mapping[str, str], unset: Callable[[str], None]) -> str:
    form = _BRACED.fullmatch(content)
    if form is None:
        return _value(content, values, unset)
    name, operator = form["name"], form["operator"]
    word = interpolate(form["word"], values, unset)
    value = values.get(name)
    given = bool(value) if operator[0] == ":" else value is not None
    match operator[-1]:
        case "-":
            return (value or "") if given else word
        case "+":
            return word if given else (value or "")
        case _:
            if given:
                return value or ""
            raise InterpolationError(f"required variable {name} is missing a value" + (f": {word}" if word else ""))


def _value(name: str, values: Mapping[str, str], unset: Callable[[str], None]) -> str:
    if name not in values:
        unset(name)
    return values.get(name, "")


def _closing_brace(text: str) -> int | None:
    """Return where the first brace of `text` is closed; the character after an opening brace does not count."""
    depth = position = 0
    while position < len(text):
        if text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        elif text[position] == "{":
            depth += 1
            position += 1
        position += 1
    return None
