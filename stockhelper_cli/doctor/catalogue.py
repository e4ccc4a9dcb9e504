"""All checks there are, found by where they lie, and the choice among them."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Sequence
from functools import cache

from stockhelper_cli.doctor import checks
from stockhelper_cli.doctor.check import Check, Group
from stockhelper_cli.errors import StockhelperError


@cache
def all_checks() -> tuple[Check, ...]:
    """Return one of each check in `doctor/checks`: group by group, in each after what they need, else by id."""
    found: dict[str, Check] = {}
    for file in pkgutil.iter_modules(checks.__path__):
        module = importlib.import_module(f"{checks.__name__}.{file.name}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Check) and kind.__module__ == module.__name__:
                found[kind.id] = kind()
    groups = list(Group)

    def depth(check: Check) -> int:
        return 1 + max((depth(found[need]) for need in check.needs), default=0)

    return tuple(sorted(found.values(), key=lambda check: (groups.index(check.group), depth(check), check.id)))


def chosen(only: Sequence[str], skip: Sequence[str]) -> tuple[Check, ...]:
    """Return the checks that `--only` and `--skip` leave: an id, or what stands before the dot for all of those.

    With `only`, what the chosen ones need comes with them. Raises `StockhelperError` (usage) for a name there is not.
    """
    everything = {check.id: check for check in all_checks()}
    wanted = ids_of(only) if only else set(everything)
    waiting = list(wanted)
    while waiting:
        for need in everything[waiting.pop()].needs:
            if need not in wanted:
                wanted.add(need)
                waiting.append(need)
    wanted -= ids_of(skip)
    return tuple(check for id, check in everything.items() if id in wanted)


def ids_of(names: Iterable[str]) -> set[str]:
    """Return the ids that names stand for. Raises `StockhelperError` (usage) for a name there is not."""
    known = [check.id for check in all_checks()]
    ids: set[str] = set()
    for name in names:
        found = [id for id in known if id == name or id.startswith(f"{name}.")]
        if not found:
            near = difflib.get_close_matches(name, known, 1)
            raise StockhelperError(
                "usage",
                f"there is no check {name}",
                cause=f"did you mean {near[0]}?" if near else "",
                next=["stockhelper doctor --list"],
            )
        ids.update(found)
    return ids
