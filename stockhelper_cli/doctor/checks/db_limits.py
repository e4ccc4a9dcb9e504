"""`db.limits`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockhelper_cli.database.server import ServerError
from stockhelper_cli.database.vitals import ServerSettings
from stockhelper_cli.doctor.check import ok, warning
from stockhelper_cli.doctor.connections import wanted_connections
from stockhelper_cli.doctor.database import DatabaseCheck
from stockhelper_cli.doctor.limits import limits_of
from stockhelper_cli.doctor.services import Fault

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding

#: Bytes of a session besides what it sorts in.
_SESSION: Final = 2 << 20
#: Processes of the server that are always there, the init before them, and what asks it from within: psql, its checks.
_OWN_PROCESSES: Final = 12


class DbLimits(DatabaseCheck):
    """Compares the limits of the database's container with what its settings, and the app's pools, let it use."""

    id = "db.limits"
    title = "the database's limits are enough for its settings"
    needs = ("engine.answers",)
    seconds = 10.0  # as `db.answers`, whose answer it waits for
    explains = frozenset({"service.exited", "service.unhealthy"})

    def look(self, context: Context, database: Database) -> Finding:
        """Compare each; of a server that cannot be asked, with PostgreSQL's defaults."""
        settings = _settings(context, database)
        limits = limits_of(context.project, database.service, context.engine.api_version)
        sessions = min(wanted_connections(context), settings.max_connections)
        memory = settings.shared_buffers + settings.maintenance_work_mem + sessions * (settings.work_mem + _SESSION)
        workers = settings.max_worker_processes + settings.autovacuum_max_workers
        processes = sessions + settings.superuser_reserved_connections + workers + _OWN_PROCESSES
        # What a parallel hash join shares between its processes.
        shared = int(settings.work_mem * settings.hash_mem_multiplier * (settings.max_parallel_workers_per_gather + 1))
        short = []
        if 0 < limits.memory < memory:
            short.append(
                f"memory: {_megabytes(limits.memory)} (DB_MEMORY), and it may use {_megabytes(memory)}: it is killed"
            )
        if 0 < limits.processes < processes:
            short.append(
                f"processes: {limits.processes} (DB_PIDS), and it may need {processes}: connections are refused"
            )
        if limits.shared_memory < shared:
            short.append(
                f"/dev/shm: {_megabytes(limits.shared_memory)} (shm_size), and a query may need {_megabytes(shared)}:"
                " it fails"
            )
        if not short:
            return ok(
                f"memory {_megabytes(limits.memory) if limits.memory else 'without limit'} for {_megabytes(memory)},"
                f" processes {limits.processes or 'without limit'} for {processes},"
                f" /dev/shm {_megabytes(limits.shared_memory)} for {_megabytes(shared)}"
            )
        return warning(
            f"the limits of {database.service.name} are below what its settings allow it to use",
            *short,
            f"with up to {sessions} sessions (WEB_CONCURRENCY × DB_POOL_SIZE, and a few)",
            remedy="raise the limit in .env (shm_size in the compose file), then:",
            commands=["stockhelper up"],
        )


def _settings(context: Context, database: Database) -> ServerSettings:
    if context.services.states[database.service.name].fault is not Fault.NONE or context.owner_answer is not None:
        return ServerSettings()
    try:
        return context.vitals.settings
    except ServerError:  # which `db.connections` tells
        return ServerSettings()


def _megabytes(count: int) -> str:
    return f"{count / (1 << 20):.0f} MB"
