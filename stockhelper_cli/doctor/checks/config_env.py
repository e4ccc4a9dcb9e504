"""`config.env`."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, failure_of, ok
from stockhelper_cli.errors import ConfigError
from stockhelper_cli.machine.init_env import init_env, recode

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
    fixes = "writes a missing .env with random secrets, as `init` does; one in UTF-16 as UTF-8, the former beside it"

    def examine(self, context: Context) -> Finding:
        """Read it."""
        try:
            dotenv = context.variables.dotenv
        except ConfigError as error:
            return failure_of(error, fix=_fix(context.root / ".env", error))
        if dotenv is None:
            return ok("no env file is used")
        return ok(f"{dotenv.shown}: {len(dotenv)} settings", *_oddities(dotenv.path.read_bytes()))

    def mend(self, context: Context, emit: Emit) -> None:
        """Write it."""
        path = context.root / ".env"
        if path.exists():
            recode(path)
        else:
            init_env(context.root)


def _fix(path: Path, error: ConfigError) -> str:
    """Return what can be done about an error, "" where only the user can know what the file should hold."""
    if error.code == "config.env_missing":
        # Else it is a file that --env-file names.
        return f"write {path} with random secrets" if "stockhelper init" in error.next else ""
    own = path.is_file() and os.access(path, os.R_OK) and error.message.startswith(f"{path.name}:")
    if own and path.read_bytes().startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"write {path} as UTF-8, and keep what it is now as {path.name}.utf-16"
    return ""


def _oddities(raw: bytes) -> list[str]:
    """Return what Compose and stockhelper take as it is, and a shell or `docker run --env-file` would not."""
    told = []
    if raw.startswith(codecs.BOM_UTF8):
        told.append("it begins with a byte order mark, which a shell would not skip")
    if b"\r\n" in raw:
        told.append("its lines end with CRLF, which a shell would take for a part of the values")
    return told
