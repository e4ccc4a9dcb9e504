"""`network.dns`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped
from stockhelper_cli.errors import Conflict, NotFound

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

_Question: TypeAlias = tuple[str, str, str]


class NetworkDns(Check):
    """Asks, within running containers, for the names of the services that they depend on."""

    id = "network.dns"
    group = Group.NETWORK
    title = "containers find each other by name"
    needs = ("engine.answers",)
    explains = frozenset({"service.unhealthy", "service.exited", "migration.failed"})

    def examine(self, context: Context) -> Finding:
        """Resolve every name in a container that needs it."""
        questions = _questions(context)
        if not questions:
            running = any(container.running for container in context.state.containers)
            return ok("no container has to find another") if running else skipped("no container runs")
        with ThreadPoolExecutor(len(questions)) as pool:
            answers = list(pool.map(lambda question: _found(context, question), questions))
        told = list(zip(questions, answers, strict=True))
        lost = [question for question, found in told if found is False]
        if not lost:
            words = {True: "finds", None: "cannot be asked for"}
            return ok(", ".join(f"{service} {words[found]} {name}" for (service, _, name), found in told))
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
    return [
        (name, running[name].name, dependency.service)
        for name in running
        for dependency in context.project.services[name].depends_on
        if dependency.service in running
        and set(context.project.services[name].networks) & set(context.project.services[dependency.service].networks)
    ]


def _found(context: Context, question: _Question) -> bool | None:
    """Return whether a container finds a name; None where it cannot be asked."""
    _, container, name = question
    try:
        code = context.engine.exec(container, ["getent", "hosts", name]).exit_code
    except (Conflict, NotFound):  # it has just stopped
        return None
    # getent(1): 2 where the name has no entry. Another code is not its answer: an image may lack the program.
    return {0: True, 2: False}.get(code)
