"""What every refusal has: one exit code, one line that says what failed, and no sign of a bug."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Protocol


class Answer(Protocol):
    """What a command line gave."""

    @property
    def code(self) -> int: ...
    @property
    def out(self) -> str: ...
    @property
    def err(self) -> str: ...


def explained(answer: Answer, code: int, *parts: str) -> None:
    """Check that a command failed with a code, that one line says what, and that all these parts are in the message."""
    said = answer.err
    assert answer.code == code, said + answer.out
    assert len(re.findall("^error: ", said, re.MULTILINE)) == 1, said
    assert "Traceback" not in said
    assert "bug in stockhelper" not in said
    for part in parts:
        assert part in said, f"{part!r} is not in:\n{said}"


def without_override(command: Sequence[str]) -> list[str]:
    """Return the command as one that file permissions bind: root's own power over them is taken from it."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *command]
