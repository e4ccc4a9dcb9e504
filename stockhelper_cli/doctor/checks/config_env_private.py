"""`config.env_private`."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class ConfigEnvPrivate(Check):
    """Looks at who may read the file with the passwords."""

    id = "config.env_private"
    group = Group.CONFIGURATION
    title = ".env, which holds the passwords, is for its owner only"
    needs = ("config.env",)
    fixes = "takes the rights of everybody but the owner (0600)"

    def examine(self, context: Context) -> Finding:
        """Look at its mode."""
        dotenv = context.variables.dotenv
        if dotenv is None:
            return skipped("no env file is used")
        mode = stat.S_IMODE(dotenv.path.stat().st_mode)
        if not mode & _OTHERS:
            return ok(f"{dotenv.shown} is {mode:04o}")
        rights = {stat.S_IWGRP | stat.S_IWOTH: "write", stat.S_IRGRP | stat.S_IROTH: "read"}
        may = " and ".join(word for bits, word in rights.items() if mode & bits) or "run"
        return warning(
            f"others may {may} {dotenv.shown}",
            f"it holds passwords, and its mode is {mode:04o}",
            commands=[f"chmod 600 {dotenv.shown}"],
            fix=f"chmod 600 {dotenv.path}",
        )

    def mend(self, context: Context, emit: Emit) -> None:
        """Change its mode."""
        dotenv = context.variables.dotenv
        assert dotenv is not None
        dotenv.path.chmod(0o600)
