"""`app.health`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from stockhelper_cli.converge.ready import HEALTH_PATH, PROBE_SECONDS, probe_for
from stockhelper_cli.doctor.check import Check, Group, failed, ok, skipped
from stockhelper_cli.doctor.services import Fault, last_lines
from stockhelper_cli.errors import Conflict, NotFound
from stockhelper_cli.status import urls_of

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.services import ServiceState
    from stockhelper_cli.findings import Finding

#: Seconds for an answer: the service takes two when the database says nothing.
_SECONDS: Final = 4.0


class AppHealth(Check):
    """Asks the app whether it is healthy, as a browser of this machine would."""

    id = "app.health"
    group = Group.APP
    title = "the app answers that it is healthy"
    needs = ("db.answers", "db.initialised", "db.app_login", "network.dns")
    explains = frozenset({"service.unhealthy"})

    def examine(self, context: Context) -> Finding:
        """Ask it."""
        app = context.app
        if app is None:
            return ok("no service of the project is an app")
        if app.container is None or app.fault is not Fault.NONE:
            return skipped("the app does not run")
        urls = urls_of(app.service, app.container)
        if not context.state.local or not urls:
            return _by_its_check(context, app)
        import httpx

        began = time.monotonic()
        try:
            answer = httpx.get(urls[0] + HEALTH_PATH, timeout=_SECONDS, trust_env=False)
        except httpx.TransportError as error:
            return _failed(context, app, f"{urls[0]} does not answer", str(error) or type(error).__name__)
        took = f"{(time.monotonic() - began) * 1000:.0f} ms"
        if answer.is_success:
            return ok(f"{urls[0]}{HEALTH_PATH} answers {answer.status_code} in {took}")
        return _failed(
            context,
            app,
            f"{urls[0]}{HEALTH_PATH} answers {answer.status_code} in {took}",
            " ".join(answer.text.split()),
        )


def _by_its_check(context: Context, app: ServiceState) -> Finding:
    """Let the engine ask, where the app's port cannot be reached from here."""
    assert app.container is not None
    try:
        missing = probe_for(app.service, context.engine, local=False)(app.container, PROBE_SECONDS)
    except (Conflict, NotFound):
        return skipped("the app stopped while it was asked")
    return _failed(context, app, "its health check fails", missing) if missing else ok("its health check succeeds")


def _failed(context: Context, app: ServiceState, summary: str, *evidence: str) -> Finding:
    said = [line for line in evidence if line]
    name = app.service.name
    return failed(
        summary,
        *said,
        *last_lines(context.engine, app),
        commands=[f"stockhelper logs {name}", f"stockhelper restart {name}"],
    )
