"""`config.env`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, failure_of, ok
from stockhelper_cli.errors import ConfigError

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding


class ConfigEnv(Check):
    """Reads .env, or what is given in its place."""

    id = "config.env"
    group = Group.CONFIGURATION
    title = ".env is there and can be read"
    needs = ("config.project",)
    fixes = "writes a missing .env with random secrets, as `init` does"

    def examine(self, context: Context) -> Finding:
        """Read it."""
        try:
            dotenv = context.variables.dotenv
        except ConfigError as error:
            # Else a file that --env-file names is missing, and only the user can know what it should hold.
            ours = error.code == "config.env_missing" and "stockhelper init" in error.next
            return failure_of(error, fix=f"write {context.root / '.env'} with random secrets" if ours else "")
        return ok("no env file is used" if dotenv is None else f"{dotenv.shown}: {len(dotenv)} settings")

    def mend(self, context: Context, emit: Emit) -> None:
        """Write it."""
        from stockhelper_cli.machine.init_env import init_env

        init_env(context.root)
