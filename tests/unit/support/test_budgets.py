"""What `make check-budget` fails for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.budgets import Measured, budgets_for, over

#: The sum is 61.
QUIET = {"tests/a.py": 1.0, "tests/b.py": 60.0}
BUDGETS = {"test": {"all": 79, "tests/a.py": 11, "tests/b.py": 78}, "slow": {"all": 0}}


def judged(modules: Mapping[str, float], long: Mapping[str, float] | None = None) -> list[str]:
    runs: dict[str, Measured] = {
        "test": {"modules": {**QUIET, **modules}, "long": dict(long or {})},
        "slow": {"modules": {}, "long": {"tests/a.py::test_it": 99.0}},
    }
    return list(over(BUDGETS, runs))


def test_budgets_have_room_for_noise_and_for_what_is_shared() -> None:
    assert budgets_for({"modules": QUIET, "long": {}}) == BUDGETS["test"]


@pytest.mark.parametrize(
    ("modules", "long", "lines"),
    [
        ({"tests/b.py": 67.9}, {}, []),
        ({"tests/a.py": 11.1}, {}, ["test: tests/a.py costs 11.1 s, and may cost 11 s"]),
        (
            {"tests/a.py": 10.0, "tests/b.py": 70.0},
            {},
            ["test: all costs 80.0 s, and may cost 79 s"],
        ),
        ({"tests/c.py": 2.0}, {}, ["test: tests/c.py has no budget: it costs 2.0 s"]),
        (
            {},
            {"tests/b.py::test_it": 12.5},
            ["tests/b.py::test_it costs 12.5 s: mark it slow, or long with the reason"],
        ),
    ],
)
def test_check_names_what_costs_too_much(
    modules: Mapping[str, float], long: Mapping[str, float], lines: list[str]
) -> None:
    assert judged(modules, long) == lines
