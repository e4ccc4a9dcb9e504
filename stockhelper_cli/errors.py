"""What can go wrong, in one place.

`StockhelperError` is the only exception a user ever sees. It says what failed, why, and what to type next, and
its code decides the exit code through one table, `ERROR_CODES`, which the README shows.

    StockhelperError
    ├── ConfigError      .env or the compose files are not usable
    └── EngineError      the engine refused, failed or went away
        ├── NotFound     the engine has no such object
        └── Conflict     the engine has such an object already, or it is in use

`Interruption` stands apart: it is no failure, and nothing but `main` may end its way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType

from stockhelper_cli.findings import Finding


class ExitCode(IntEnum):
    """The exit codes of every command, as the command-line contract fixes them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    ENVIRONMENT = 4
    UNHEALTHY = 5
    MIGRATION = 6
    BACKUP = 7
    LOCKED = 8
    CONFIRMATION = 9
    INTERRUPTED = 130
    TERMINATED = 143


#: Error code → exit code. Adding an error means adding a row here; the README's table is compared with this one.
ERROR_CODES: Mapping[str, ExitCode] = MappingProxyType(
    {
        "failed": ExitCode.FAILED,
        "usage": ExitCode.USAGE,
        "config.project": ExitCode.CONFIGURATION,
        "config.env_missing": ExitCode.CONFIGURATION,
        "config.env": ExitCode.CONFIGURATION,
        "config.compose": ExitCode.CONFIGURATION,
        "config.value": ExitCode.CONFIGURATION,
        "engine.unreachable": ExitCode.ENVIRONMENT,
        "engine.permission": ExitCode.ENVIRONMENT,
        "engine.timeout": ExitCode.ENVIRONMENT,
        "engine.too_old": ExitCode.ENVIRONMENT,
        "engine.lost": ExitCode.ENVIRONMENT,
        "engine.install": ExitCode.ENVIRONMENT,
        "engine.refused": ExitCode.FAILED,
        "engine.not_found": ExitCode.FAILED,
        "engine.conflict": ExitCode.FAILED,
        "port.busy": ExitCode.ENVIRONMENT,
        "disk.full": ExitCode.ENVIRONMENT,
        "image.missing": ExitCode.ENVIRONMENT,
        "image.registry": ExitCode.ENVIRONMENT,
        "image.archive": ExitCode.ENVIRONMENT,
        "image.base": ExitCode.ENVIRONMENT,
        "image.build": ExitCode.FAILED,
        "name.taken": ExitCode.FAILED,
        "service.unhealthy": ExitCode.UNHEALTHY,
        "service.exited": ExitCode.UNHEALTHY,
        "db.password_drift": ExitCode.CONFIGURATION,
        "db.half_initialised": ExitCode.CONFIGURATION,
        "db.other_major": ExitCode.CONFIGURATION,
        "db.volume_in_use": ExitCode.CONFIGURATION,
        "db.refused": ExitCode.FAILED,
        "data.failed": ExitCode.FAILED,
        "migration.failed": ExitCode.MIGRATION,
        "migration.heads": ExitCode.MIGRATION,
        "migration.unknown_revision": ExitCode.MIGRATION,
        "migration.ahead": ExitCode.MIGRATION,
        "migration.difference": ExitCode.MIGRATION,
        "backup.failed": ExitCode.BACKUP,
        "backup.missing": ExitCode.BACKUP,
        "backup.damaged": ExitCode.BACKUP,
        "backup.mismatch": ExitCode.BACKUP,
        "backup.encrypted": ExitCode.BACKUP,
        "backup.identity": ExitCode.BACKUP,
        "backup.other_database": ExitCode.BACKUP,
        "backup.newer_major": ExitCode.BACKUP,
        "backup.copy": ExitCode.BACKUP,
        "backup.schedule": ExitCode.ENVIRONMENT,
        "restore.failed": ExitCode.BACKUP,
        "locked": ExitCode.LOCKED,
        "confirmation": ExitCode.CONFIRMATION,
        "interrupted": ExitCode.INTERRUPTED,
        "terminated": ExitCode.TERMINATED,
    }
)


class StockhelperError(Exception):
    """A failure that is told to the user in three parts: what failed, why, and the next command to type."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        cause: str = "",
        next: Sequence[str] = (),
        details: Sequence[str] = (),
    ) -> None:
        """Hold one failure.

        `code` is a key of `ERROR_CODES`; `message` and `cause` are one line each; `next` are commands to type;
        `details` are the log or build lines that show the cause, oldest first.
        """
        super().__init__(message)
        self.code = code
        self.exit_code = ERROR_CODES[code]
        self.message = message
        self.cause = cause
        self.next = tuple(next)
        self.details = tuple(details)
        #: What `doctor` found that explains it; filled in where the failed command ends.
        self.findings: tuple[Finding, ...] = ()


class ConfigError(StockhelperError):
    """.env or the compose files are not usable; the message names the file, the line and the key."""


class EngineError(StockhelperError):
    """The engine refused, failed or went away; raised at the one boundary where its SDK is called."""


class NotFound(EngineError):
    """The engine has no such object."""


class Conflict(EngineError):
    """The engine has such an object already, or it is in use."""


class Interruption(BaseException):
    """A signal came; `error` is what the user is told of it.

    Not an `Exception`: there are libraries on its way out that take every one of those for a failure of their own.
    """

    def __init__(self, error: StockhelperError) -> None:
        super().__init__(error.message)
        self.error = error
