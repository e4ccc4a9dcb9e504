"""The images that a Dockerfile is built on, as far as its FROM and COPY --from lines name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_ARGUMENT: Final = re.compile(r"ARG\s+(\w+)(?:=(\S*))?", re.IGNORECASE)
_FROM: Final = re.compile(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_COPY: Final = re.compile(r"COPY\s+(?:--\S+\s+)*--from=(\S+)", re.IGNORECASE)
_VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")


def bases_of(dockerfile: str, args: Mapping[str, str]) -> tuple[str, ...]:
    """Return the images that have to be there for a build with these arguments, in the order of their lines.

    A name that the builder alone can make out is left to it.
    """
    values: dict[str, str] = {}
    stages: set[str] = {"scratch"}
    bases: dict[str, None] = {}
    for line in map(str.strip, dockerfile.replace("\\\n", " ").splitlines()):
        if found := _FROM.match(line):
            image, name = _filled(found[1], values), found[2]
            if image.lower() not in stages:
                bases[image] = None
            stages |= {name.lower()} if name else set()
        elif len(stages) == 1 and not bases and (found := _ARGUMENT.match(line)):  # only those before all stages count
            values[found[1]] = args.get(found[1], (found[2] or "").strip("\"'"))
        elif (found := _COPY.match(line)) and not (found[1].isdecimal() or found[1].lower() in stages):
            bases[found[1]] = None
    return tuple(base for base in bases if base and "$" not in base)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], "") or found[3] or "", text)
