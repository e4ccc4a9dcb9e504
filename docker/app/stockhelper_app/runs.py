"""The runs that bring bars in: their rows in `sync_runs`, and which days they have covered.

A run covers the trading days from its first to its last, as each of them was loaded whole.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Final

import psycopg

from stockhelper_app.loading import Loaded

#: The advisory lock of the sync: its holder is the only one at work, in whatever process and container.
LOCK_KEY: Final = 0x73746F636B73796E


class ExitCode(IntEnum):
    """How the process of a sync ends; 75 is sysexits' "try again later"."""

    DONE = 0
    FAILED = 1
    BUSY = 75
    INTERRUPTED = 130


_BEGIN: Final = "INSERT INTO sync_runs (job, source) VALUES ('sync', %s) RETURNING id"
_ADVANCE: Final = """
    UPDATE sync_runs SET first_day = least(first_day, %s), last_day = greatest(last_day, %s),
        rows = rows + %s, changed = changed + %s
    WHERE id = %s
"""
_FINISH: Final = "UPDATE sync_runs SET outcome = %s, error = %s, finished_at = now() WHERE id = %s"
_FORGET: Final = """
    DELETE FROM sync_runs WHERE id = %(run)s AND NOT EXISTS (
        SELECT FROM sync_runs WHERE outcome IN ('failed', 'interrupted') AND id =
            (SELECT max(id) FROM sync_runs WHERE job = 'sync' AND id < %(run)s))
"""
_IMPORTED: Final = """
    INSERT INTO sync_runs (job, source, finished_at, first_day, last_day, rows, changed, outcome, error)
    VALUES ('import', %s, clock_timestamp(), %s, %s, %s, %s, %s, %s)
"""
_ABANDONED: Final = """
    UPDATE sync_runs SET outcome = 'interrupted', error = 'its process ended without a word', finished_at = now()
    WHERE job = 'sync' AND outcome = 'running'
"""
_MISSING: Final = """
    SELECT day FROM unnest(%s::date[]) AS day
    WHERE NOT EXISTS (SELECT FROM sync_runs WHERE job = 'sync' AND source = %s AND day BETWEEN first_day AND last_day)
    ORDER BY day
"""


@contextmanager
def lock(connection: psycopg.Connection[Any]) -> Iterator[bool]:
    """Hold the sync's lock for as long as the block and the connection last; yields False if somebody else has it."""
    mine = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone() == (True,)
    yield mine
    # At once: a session that was closed ends in its own time. One that broke needs no word.
    if mine and not connection.broken:
        connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK_KEY,))


def close_abandoned(connection: psycopg.Connection[Any]) -> None:
    """Close the runs whose process was killed; the caller holds the lock, so none of them is under way."""
    connection.execute(_ABANDONED)


def begin(connection: psycopg.Connection[Any], source: str) -> int:
    """Begin a sync, and return its id."""
    row = connection.execute(_BEGIN, (source,)).fetchone()
    assert row is not None
    return int(row[0])


def advance(connection: psycopg.Connection[Any], run: int, days: Sequence[dt.date], loaded: Loaded) -> None:
    """Note, in the transaction that loads them, that a run covers these days too, if any."""
    first, last = (days[0], days[-1]) if days else (None, None)
    connection.execute(_ADVANCE, (first, last, loaded.rows, loaded.changed, run))


def finish(connection: psycopg.Connection[Any], run: int, outcome: str, error: str | None = None) -> None:
    """End a run: `outcome` is done, failed or interrupted."""
    connection.execute(_FINISH, (outcome, error, run))


def finish_idle(connection: psycopg.Connection[Any], run: int) -> None:
    """End a run well that found nothing to do: without a trace, unless it tells that the one before is made good."""
    if not connection.execute(_FORGET, {"run": run}).rowcount:
        finish(connection, run, "done")


def record_import(connection: psycopg.Connection[Any], source: str, loaded: Loaded, error: str | None) -> None:
    """Write down an import, in its own transaction; one with an error has failed, whatever it could load."""
    first, last = (loaded.days[0], loaded.days[-1]) if loaded.days else (None, None)
    outcome = "failed" if error else "done"
    connection.execute(_IMPORTED, (source, first, last, loaded.rows, loaded.changed, outcome, error))


def missing(connection: psycopg.Connection[Any], days: Sequence[dt.date], source: str) -> list[dt.date]:
    """Return those of the days, ascending, that no run from this source has covered."""
    return [day for (day,) in connection.execute(_MISSING, (list(days), source))]
