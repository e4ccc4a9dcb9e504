"""Numbers as people read them: separated thousands, as many decimals as prices have, a sign that is no colour."""

from decimal import Decimal
from typing import Final

#: What a number is divided by, from large to small, and the sign behind it.
_UNITS: Final = {
    "en": ((10**9, "B"), (10**6, "M"), (10**3, "K")),
    "zh": ((10**8, "亿"), (10**4, "万")),
}
Number = Decimal | float | int


def decimals_of(price: Decimal) -> int:
    """Return how many decimals a share's prices are shown with: two, or what it is quoted with."""
    exponent = price.normalize().as_tuple().exponent
    return max(2, -exponent) if isinstance(exponent, int) else 2


def plain(value: Number, decimals: int = 0) -> str:
    """Return a number with so many decimals."""
    return f"{value:,.{decimals}f}"


def signed(value: Number, decimals: int = 2) -> str:
    """Return a number with its sign, if it is not zero as it is shown."""
    text = f"{value:+,.{decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}") if text.strip("+-0.,") else text[1:]


def percent(value: Number) -> str:
    """Return a change in percent."""
    return f"{signed(value)}%"


def amount(value: int, language: str) -> str:
    """Return a large number in the language's units, with three digits or so."""
    for size, unit in _UNITS[language]:
        if value >= size:
            scaled = value / size
            return f"{scaled:,.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{unit}"
    return plain(value)


def direction(value: Number | None) -> str:
    """Return up, down or flat: the class of what is coloured, and the name of its arrow."""
    return "flat" if not value else "up" if value > 0 else "down"
