"""How the benchmarks judge what they measure."""

from __future__ import annotations

import pytest

from tests.bench.measure import Row, show, unit
from tests.bench.report import table


@pytest.mark.parametrize(
    ("quantity", "ours", "theirs", "aim", "met"),
    [
        ("", 1.0, 2.0, 0.7, True),
        ("", 3.0, 2.0, 0.7, False),
        ("1 callers, requests/s", 300.0, 200.0, 1.5, True),
        ("1 callers, requests/s", 200.0, 300.0, 1.5, False),
        ("size over its base", 1.0, 2.0, None, None),
    ],
)
def test_of_requests_there_should_be_more_and_of_all_else_less(
    quantity: str, ours: float, theirs: float, aim: float | None, met: bool | None
) -> None:
    row = Row("case", "work", "another", [ours], [theirs], aim, unit=unit(quantity))
    assert row.met is met


def test_values_are_shown_as_people_read_them() -> None:
    assert show(1234.4, unit("16 callers, requests/s")) == "1234/s"
    assert show(0.0042, unit("16 callers, p99")) == "4.2 ms"


def test_what_bounds_an_aim_is_told_where_it_is_missed() -> None:
    missed = Row("case", "work", "another", [100.0], [100.0], 1.5, "the database", "/s")
    lines = table([missed]).splitlines()
    assert lines[1].endswith("1.00   ≥ 1.5  NOT MET")
    assert lines[2].strip() == "bounded by the database"
