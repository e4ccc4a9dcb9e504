"""The catalogue: what lies in `checks/` is a check, and each can be chosen by its name."""

from __future__ import annotations

import pkgutil

import pytest

from stockhelper_cli.doctor import checks
from stockhelper_cli.doctor.catalogue import all_checks, chosen, ids_of
from stockhelper_cli.doctor.check import Check, Group
from stockhelper_cli.doctor.explain import ASSUMED
from stockhelper_cli.errors import ERROR_CODES, StockhelperError

CHECKS = {check.id: check for check in all_checks()}
#: What ids begin with, group by group.
PREFIXES = {
    Group.ENGINE: "engine",
    Group.NETWORK: "network",
    Group.IMAGES: "image",
    Group.CONFIGURATION: "config",
    Group.STACK: "stack",
    Group.DATABASE: "db",
    Group.APP: "app",
}


def test_every_file_holds_the_one_check_that_it_is_named_after() -> None:
    files = {file.name for file in pkgutil.iter_modules(checks.__path__)}
    assert files == {id.replace(".", "_") for id in CHECKS}
    assert len(all_checks()) == len(files)


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: str(check.id))
def test_it_is_described_and_what_it_names_exists(check: Check) -> None:
    assert check.id.startswith(PREFIXES[check.group] + ".")
    assert check.title

    assert set(check.needs) <= set(CHECKS)
    assert check.explains <= set(ERROR_CODES)
    assert 0 < check.seconds <= 15
    assert bool(check.fixes) == (type(check).mend is not Check.mend), "who says that it mends does, and the other way"


def test_each_comes_after_what_it_needs_within_its_group() -> None:
    order = list(CHECKS)
    for check in CHECKS.values():
        for need in check.needs:
            assert CHECKS[need].group is not check.group or order.index(need) < order.index(check.id)


def test_what_an_explanation_assumes_exists() -> None:
    assert set(ASSUMED) <= set(CHECKS)


def test_a_chosen_one_brings_what_it_needs() -> None:
    assert {check.id for check in chosen(["config.env"], [])} == {"config.project", "config.env"}


def test_what_stands_before_the_dot_chooses_them_all() -> None:
    assert ids_of(["engine"]) == {id for id in CHECKS if id.startswith("engine.")}
    assert not any(check.id.startswith("engine.") for check in chosen([], ["engine"]))


def test_a_name_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(StockhelperError) as caught:
        ids_of(["config.envv"])
    assert (caught.value.code, caught.value.cause) == ("usage", "did you mean config.env?")
