"""`stack.health`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.converge.ready import PROBE_SECONDS, HealthcheckProbe, check_command, probe_for
from stockhelper_cli.converge.reconcile import ROLE_APP, ROLE_DATABASE
from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped
from stockhelper_cli.errors import StockhelperError

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.services import ServiceState
    from stockhelper_cli.findings import Finding


class StackHealth(Check):
    """Looks at the engine's health checks, and asks again where one says that a service is unhealthy.

    A database or an app that really does not answer is told of by the checks that ask it.
    """

    id = "stack.health"
    group = Group.STACK
    title = "no health check fails of a service that is otherwise well"
    needs = ("engine.answers",)
    explains = frozenset({"service.unhealthy"})

    def examine(self, context: Context) -> Finding:
        """Look at each that has one."""
        services = context.services
        if not services.up:
            return skipped("the stack is not up")
        checked = [
            state
            for state in services.states.values()
            if state.container is not None and state.container.running and state.container.health is not None
        ]
        unhealthy = [state for state in checked if state.container and _status(state) == "unhealthy"]
        recovered = [state for state in unhealthy if _answers_now(context, state)]
        named = [s for s in unhealthy if s not in recovered and not _is_asked_elsewhere(context, s)]
        if named:
            return failed(
                "; ".join(f"{state.service.name} is unhealthy" for state in named),
                *(f"its last check said: {_output(state) or 'nothing'}" for state in named),
                commands=[f"stockhelper logs {state.service.name}" for state in named],
            )
        return ok(
            ", ".join(f"{state.service.name} {_status(state)}" for state in checked) or "no service has a check",
            *(f"{state.service.name} passes its check again" for state in recovered),
        )


def _status(state: ServiceState) -> str:
    assert state.container is not None
    assert state.container.health is not None
    return state.container.health.status


def _output(state: ServiceState) -> str:
    assert state.container is not None
    assert state.container.health is not None
    return " ".join(state.container.health.last_output.split())


def _answers_now(context: Context, state: ServiceState) -> bool:
    """Whether it has recovered since: the engine may not ask again for a while."""
    command = check_command(state.service)
    assert state.container is not None
    return bool(command) and not HealthcheckProbe(context.engine, command)(state.container, PROBE_SECONDS)


def _is_asked_elsewhere(context: Context, state: ServiceState) -> bool:
    """Whether a check of the database or the app fails for the same reason."""
    if state.service.role not in (ROLE_DATABASE, ROLE_APP):
        return False
    assert state.container is not None
    try:
        return bool(probe_for(state.service, context.engine, local=context.state.local)(state.container, PROBE_SECONDS))
    except StockhelperError:
        return True
