"""Which PostgreSQL major comes after which."""

from __future__ import annotations

import pytest

from stockhelper_cli.converge.volume import is_newer


@pytest.mark.parametrize(
    ("major", "than", "newer"),
    [("17", "15", True), ("15", "17", False), ("15", "15", False), ("10", "9.6", True), ("", "15", False)],
)
def test_majors_are_compared_as_numbers(major: str, than: str, newer: bool) -> None:
    assert is_newer(major, than) == newer
