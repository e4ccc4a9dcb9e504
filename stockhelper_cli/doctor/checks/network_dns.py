"""`network.dns`."""

from __future__ import annotations

import ipaddress
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped
from stockhelper_cli.doctor.needs import index_of
from stockhelper_cli.errors import Conflict, NotFound

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

_Question: TypeAlias = tuple[str, str, str]


class NetworkDns(Check):
    """Asks, within running containers, for the names that their services go by, and for a configured index's."""

    id = "network.dns"
    group = Group.NETWORK
    title = "containers find each other by name"
    needs = ("engine.answers",)
    explains = frozenset({"service.unhealthy", "service.exited", "migration.failed", "image.build"})

    def examine(self, context: Context) -> Finding:
        """Resolve every name in a container that needs it."""
        questions = _questions(context)
        if not questions:
            return skipped("no container runs that has to find another")
        with ThreadPoolExecutor(len(questions)) as pool:
            answers = list(pool.map(lambda question: _found(context, question), questions))
        lost = [question for question, found in zip(questions, answers, strict=True) if found is False]
        if not lost:
            return ok(", ".join(f"{service} finds {name}" for service, _, name in questions))
        return failed(
            "; ".join(f"{service} does not find {name}" for service, _, name in lost),
            *(f"within {container}, no address belongs to {name}" for _, container, name in lost),
            "is one of them out of the project's network, or in it without its name?",
            # `up` replaces a container that is out of its network, and sees no lost name.
            remedy="make the containers anew; the data stays:",
            commands=["stockhelper down", "stockhelper up"],
        )


def _questions(context: Context) -> list[_Question]:
    """Return service, container and name for every name that a running container has to resolve."""
    running = {
        name: container
        for name in context.project.services
        for container in context.state.of_service(name)[:1]
        if container.running
    }
    asked = [
        (name, running[name].name, dependency.service)
        for name in running
        for dependency in context.project.services[name].depends_on
        if dependency.service in running
        and set(context.project.services[name].networks) & set(context.project.services[dependency.service].networks)
    ]
    index = index_of(context.builds) if context.needs.builds else None
    if index is not None and running and not _is_address(index.host):
        name = next(iter(running))
        asked.append((name, running[name].name, index.host))
    return asked


def _found(context: Context, question: _Question) -> bool | None:
    """Return whether a container finds a name; None where it cannot be asked."""
    _, container, name = question
    try:
        code = context.engine.exec(container, ["getent", "hosts", name]).exit_code
    except (Conflict, NotFound):  # it has just stopped
        return None
    # getent(1): 2 where the name has no entry. Another code is not its answer: an image may lack the program.
    return {0: True, 2: False}.get(code)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
