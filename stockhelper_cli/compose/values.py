"""Scalar values as Go reads and writes them: durations, sizes, numbers, commands.

Compose is a Go program; what it takes for a duration and how it writes one decides whether two config hashes are equal.
Each reader raises `ValueError` with one line that says what is wrong with the value.
"""

from __future__ import annotations

import math
import re
import struct
from decimal import Decimal

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_DURATION_PART = re.compile(r"([0-9]*\.?[0-9]*)(ns|us|µs|μs|ms|s|m|h|d|w)")
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(?P<unit>[kmgtp]?)(?P<bytes>b|ib)?", re.IGNORECASE)
_SPACES = " \t\r\n"

#: The words that Compose takes for a boolean, in any case. The second row works with a warning there.
BOOLEANS = {"true": True, "false": False, "y": True, "yes": True, "on": True, "n": False, "no": False, "off": False}


def parse_duration(text: str) -> int:
    """Return the nanoseconds of a duration such as `1m30s`, `1.5h` or `2d`."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total = 0.0
    position = 0
    while position < len(rest):
        part = _DURATION_PART.match(rest, position)
        if part is None or not part[1].strip("."):
            raise ValueError(f"{text!r} is not a duration; write it with a unit, as in 30s or 1m30s")
        whole, _, fraction = part[1].partition(".")
        total += int(whole or 0) * _UNITS[part[2]]
        total += int(int(fraction or 0) * (_UNITS[part[2]] / 10 ** len(fraction)))
        position = part.end()
    if not rest:
        raise ValueError("a duration is empty; write it with a unit, as in 30s or 1m30s")
    return sign * _in_64_bits(int(total))


def format_duration(nanoseconds: int) -> str:
    """Return a duration in Go's style: `1h0m0s`, `1m30s`, `1.5s`, `100ms`, `0s`."""
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1_000:
            return f"{_decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest, _UNITS['s'])}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).zfill(len(str(unit)) - 1).rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def parse_size(value: object) -> int:
    """Return the bytes of a size such as `64m`, `1.5 GiB`, `512b` or a bare number; -1 means without a limit."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _in_64_bits(value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match["bytes"] and len(match["bytes"]) == 2 and not match["unit"]):
        raise ValueError(f"{value!r} is not a size; write it as in 512m or 1g")
    power = "kmgtp".find(match["unit"].lower()) + 1 if match["unit"] else 0
    return _in_64_bits(int(float(match["number"]) * 1024**power))


def parse_boolean(value: object) -> bool:
    """Return a boolean of YAML, or of the words that Compose takes for one after interpolation."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in BOOLEANS:
        return BOOLEANS[value.lower()]
    raise ValueError(f"{value!r} is neither true nor false")


def parse_name(text: str) -> str:
    """Return a name, which must not be empty."""
    if not text:
        raise ValueError("is empty")
    return text


def parse_external(value: object) -> bool:
    """Return whether a network or a volume is external."""
    if isinstance(value, dict):
        raise ValueError(f"write `external: true` and `name: {value.get('name', '…')}`")
    return parse_boolean(value)


def parse_restart(text: str) -> str:
    """Return a restart policy; none is the engine's own, "no"."""
    if not re.fullmatch(r"|no|always|unless-stopped|on-failure(:[0-9]+)?", text):
        raise ValueError(f"{text!r} is none of no, always, unless-stopped, on-failure and on-failure:3")
    return text


def parse_security(text: str) -> str:
    """Return a security option that the engine understands as it stands: not one that names a file."""
    name, separator, value = text.partition("=" if "=" in text else ":")
    if not separator and name != "no-new-privileges":
        raise ValueError(f"{text!r} is not a security option; write it as in label=disable")
    if name == "systempaths" or (name == "seccomp" and value not in ("unconfined", "builtin")):
        raise ValueError(f"{text!r} is not supported by stockhelper")
    return text


def parse_integer(value: object) -> int:
    """Return a whole number, given as one or as its digits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a whole number")
    return _in_64_bits(value)


def _in_64_bits(number: int) -> int:
    """Return a number that Go can hold. Compose refuses some larger ones, and makes others of the rest."""
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} is too large")
    return number


def parse_natural(value: object) -> int:
    """Return a whole number that is not negative."""
    number = parse_integer(value)
    if number < 0:
        raise ValueError(f"{value!r} is negative")
    return number


def parse_float(value: object) -> float:
    """Return a number as the shortest decimal that names the same single-precision number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is not a number")
    # Python, unlike Go, takes blanks around a number and other scripts' digits.
    if isinstance(value, str) and (value != value.strip() or not value.isascii()):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(float32(number)):
        raise ValueError(f"{value!r} is not a number, or too large")
    return shortest_float32(number)


def float32(number: float) -> float:
    """Return `number` rounded to single precision."""
    return float(struct.unpack("f", struct.pack("f", number))[0])


def shortest_float32(number: float) -> float:
    """Return the decimal with the fewest digits that rounds to the same single-precision number as `number`."""
    single = float32(number)
    for digits in range(1, 10):
        short = float(f"{single:.{digits}g}")
        if float32(short) == single:
            return short
    return single


def parse_code(value: object) -> str:
    """Return a text that may be written as a whole number, such as a port or a group."""
    if isinstance(value, float):
        raise ValueError(f"{format_float(value)} is a number with a point or an exponent; put it in quotes")
    return text_of(value)


def text_of(value: object) -> str:
    """Return what Go prints for a YAML scalar: `true`, `1.5`, `1000` for 1e3, and text as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format_float(value)
    return str(value)


def format_float(number: float) -> str:
    """Return a float as Go's %v prints it: shortest, with an exponent below 1e-4 and from 1e6."""
    if not math.isfinite(number):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(number), "NaN")
    return _go_digits(number, least=1e-4, most=1e6, pad=2)


def format_json_float(number: float) -> str:
    """Return a float as Go's encoding/json writes it: shortest, with an exponent below 1e-6 and from 1e21."""
    return _go_digits(number, least=1e-6, most=1e21, pad=1)


def _go_digits(number: float, *, least: float, most: float, pad: int) -> str:
    if number == 0:
        return "-0" if math.copysign(1, number) < 0 else "0"
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    if least <= abs(number) < most:
        return format(Decimal((sign, digits, exponent)), "f")
    first, rest = digits[0], "".join(map(str, digits[1:]))
    power = exponent + len(digits) - 1
    mantissa = f"{'-' if sign else ''}{first}{'.' if rest else ''}{rest}"
    return f"{mantissa}e{'-' if power < 0 else '+'}{str(abs(power)).rjust(pad, '0')}"


def split_command(line: str) -> list[str]:
    """Return the words of a command line as Compose 2.40 splits it (mattn/go-shellwords).

    Quotes and backslashes work as in a shell. Nothing is expanded, and an unquoted `;`, `&`, `|`, `<` or `>` ends
    the command: what follows is dropped there, so it is refused here.
    """
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    escaped = False
    for character in line:
        if escaped:
            word = [*(word or []), character]
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            if character == quote:
                quote = ""
                word = word or []
            else:
                word = [*(word or []), character]
        elif character in _SPACES:
            if word is not None:
                words.append("".join(word))
                word = None
        elif character in "'\"":
            quote = character
        elif character in ";&|<>()`":
            raise ValueError(f"{character!r} outside of quotes needs a shell: write [sh, -c, …], or a list of words")
        else:
            word = [*(word or []), character]
    if quote or escaped:
        raise ValueError("the command ends inside of a quote or an escape")
    if word is not None:
        words.append("".join(word))
    return words
