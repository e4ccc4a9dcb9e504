"""How a database server is: what it is set to, who is connected, what it noticed of damage; all of it asked at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli.database.server import APPLICATION_NAME, INVALID_INDEXES, literal

if TYPE_CHECKING:
    from stockhelper_cli.database.server import Server

# Each row begins with the name of what it is of. Sizes are told in bytes.
_SETTINGS: Final = """
SELECT 'setting', name, CASE WHEN unit LIKE '%B' THEN pg_size_bytes(current_setting(name))::text ELSE setting END
FROM pg_settings WHERE name IN (
    'max_connections', 'superuser_reserved_connections', 'max_worker_processes', 'autovacuum_max_workers',
    'max_parallel_workers_per_gather', 'shared_buffers', 'work_mem', 'maintenance_work_mem', 'hash_mem_multiplier',
    'data_checksums')
"""
_USERS: Final = """
SELECT 'user', coalesce(usename, ''), count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 2 ORDER BY 3 DESC, 2
"""
# What a session runs is not asked for: a password may be in it.
_SESSIONS: Final = f"""
SELECT 'session', pid, coalesce(usename, ''), application_name, state,
    extract(epoch FROM clock_timestamp() - xact_start),
    extract(epoch FROM clock_timestamp() - state_change),
    (SELECT count(*) FROM pg_stat_activity waiting
        WHERE waiting.wait_event_type = 'Lock' AND holder.pid = ANY (pg_blocking_pids(waiting.pid)))
FROM pg_stat_activity holder
WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
    AND application_name <> {literal(APPLICATION_NAME)}
ORDER BY xact_start
"""
_DAMAGES: Final = """
SELECT 'damage', coalesce(datname, 'what all share'), checksum_failures,
    to_char(checksum_last_failure AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
FROM pg_stat_database WHERE checksum_failures > 0 ORDER BY 2
"""
_COLLATIONS: Final = """
SELECT 'collation', datname, datcollversion, coalesce(pg_database_collation_actual_version(oid), 'none')
FROM pg_database
WHERE datcollversion IS NOT NULL AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
ORDER BY 2
"""
_INDEXES: Final = f"SELECT 'index', found.* FROM ({INVALID_INDEXES}) found"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server is set to, memory in bytes; the defaults are those of PostgreSQL 15."""

    max_connections: int = 100
    superuser_reserved_connections: int = 3
    max_worker_processes: int = 8
    autovacuum_max_workers: int = 3
    max_parallel_workers_per_gather: int = 2
    shared_buffers: int = 128 << 20
    work_mem: int = 4 << 20
    maintenance_work_mem: int = 64 << 20
    hash_mem_multiplier: float = 2.0
    data_checksums: bool = True

    @property
    def room(self) -> int:
        """How many connections there may be of roles that are no superusers."""
        return self.max_connections - self.superuser_reserved_connections


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A session of somebody else's that is in a transaction; `waiting` is how many others it holds up by its locks.

    `seconds` is how old the transaction is, `since` for how many seconds the session has been in its `state`.
    """

    pid: int
    user: str
    application: str
    state: str
    seconds: float
    since: float
    waiting: int


@dataclass(frozen=True, slots=True)
class Damage:
    """How many damaged pages were read of a database, and when the last one."""

    database: str
    pages: int
    last: str


@dataclass(frozen=True, slots=True)
class OtherCollation:
    """A database whose text was ordered by another version of the library that the server has now."""

    database: str
    made_by: str
    present: str


@dataclass(frozen=True, slots=True)
class Vitals:
    """How a server is. `users` is how many connections each role has, `invalid_indexes` are quoted for SQL."""

    settings: ServerSettings
    users: Mapping[str, int]
    transactions: tuple[OpenTransaction, ...] = ()
    damages: tuple[Damage, ...] = ()
    collations: tuple[OtherCollation, ...] = ()
    invalid_indexes: tuple[str, ...] = ()


def read_vitals(server: Server, database: str) -> Vitals:
    """Ask a server (PostgreSQL 15 or newer), in one command. Indexes are those of `database`. Raises `ServerError`."""
    told: defaultdict[str, list[list[str]]] = defaultdict(list)
    statements = (_SETTINGS, _USERS, _SESSIONS, _DAMAGES, _COLLATIONS, _INDEXES)
    for kind, *fields in server.rows(*statements, database=database):
        told[kind].append(fields)
    return Vitals(
        settings=_settings(dict(told["setting"])),
        users={user: int(count) for user, count in told["user"]},
        transactions=tuple(_transactions(told["session"])),
        damages=tuple(Damage(name, int(pages), last) for name, pages, last in told["damage"]),
        collations=tuple(OtherCollation(*fields) for fields in told["collation"]),
        invalid_indexes=tuple(name for (name,) in told["index"]),
    )


def _settings(told: Mapping[str, str]) -> ServerSettings:
    """Read the settings; what a server does not have is left at its default."""
    reading: dict[str, Callable[[str], Any]] = {"data_checksums": "on".__eq__, "hash_mem_multiplier": float}
    return ServerSettings(**{name: reading.get(name, int)(value) for name, value in told.items()})


def _transactions(rows: list[list[str]]) -> Iterator[OpenTransaction]:
    for pid, user, application, state, seconds, since, waiting in rows:
        yield OpenTransaction(int(pid), user, application, state, float(seconds), float(since), int(waiting))
