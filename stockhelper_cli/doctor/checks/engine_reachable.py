"""`engine.reachable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, failure_of, ok
from stockhelper_cli.errors import EngineError, ExitCode

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding


class EngineReachable(Check):
    """Finds the engine as every command does: DOCKER_HOST, the current context, the usual sockets."""

    id = "engine.reachable"
    group = Group.ENGINE
    title = "an engine answers, is new enough and may be used"
    seconds = 15.0  # a probe may take 5 s, and there may be several sockets
    fixes = "installs and starts Docker (root on Debian and Ubuntu), as `setup` does"
    exit_code = ExitCode.ENVIRONMENT

    def examine(self, context: Context) -> Finding:
        """Look for an engine and ask it who it is."""
        from stockhelper_cli.machine.engine_install import start_plan

        try:
            endpoint, info = context.endpoint, context.info
        except EngineError as error:
            return failure_of(error, fix=start_plan(context.environ) if error.code == "engine.unreachable" else "")
        api = ".".join(map(str, info.api_version))
        return ok(
            f"Docker {info.version}, API {api}, at {endpoint.url} ({endpoint.source})",
            *([] if info.live_restore else ["without live-restore: when it is restarted, so are all containers"]),
        )

    def mend(self, context: Context, emit: Emit) -> None:
        """Have it installed and started."""
        from stockhelper_cli.machine.engine_install import ensure_engine

        ensure_engine(context.environ, emit)
