"""The sync: fetch the days that are missing from the provider, and load them, one batch after the other.

    python -m stockhelper_app.sync [--from DAY] [--to DAY]

A process of its own, whoever starts it: the service's scheduler, `stockhelper data sync`, or a scheduler elsewhere such
as a Kubernetes CronJob. Of all that are started only one is at work (an advisory lock in the database). What was loaded
stays when a later batch fails; the next run goes on from there. The log goes to stdout as the service's does, and its
last line has the `result`. Exit codes: 0 done, 1 failed, 2 wrong usage, 75 another one is at work, 130 stopped.
"""

import argparse
import datetime as dt
import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import psycopg
import structlog

from stockhelper_app import logs, runs
from stockhelper_app.bars import SHANGHAI
from stockhelper_app.db import connect, one_line
from stockhelper_app.loading import load
from stockhelper_app.providers import Provider, ProviderError, Share, chosen, name_of
from stockhelper_app.settings import Settings, SettingsError
from stockhelper_app.settings import load as load_settings

#: By itself: mostly this module is run as __main__.
NAME: Final = "stockhelper_app.sync"
logger = structlog.get_logger(NAME)

_SHARES: Final = """
    INSERT INTO stocks (symbol, name, exchange, listing_date) VALUES (%s, %s, split_part(%s, '.', 2), %s)
    ON CONFLICT (symbol) DO UPDATE SET name = excluded.name, listing_date = excluded.listing_date, updated_at = now()
    WHERE (stocks.name, stocks.listing_date) IS DISTINCT FROM (excluded.name, excluded.listing_date)
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a sync did. `outcome` is done, failed, interrupted or busy; days are as in ISO 8601."""

    outcome: str
    source: str = ""
    days: int = 0
    first_day: str | None = None
    last_day: str | None = None
    rows: int = 0
    changed: int = 0
    error: str | None = None
    seconds: float = 0.0


class Sync:
    """One run of the sync: what it has done so far, and how it goes on."""

    def __init__(self, settings: Settings, connection: psycopg.Connection[Any]) -> None:
        self._settings, self._connection = settings, connection
        self._days: list[dt.date] = []
        self._rows = self._changed = 0
        self._source = name_of(settings)

    def run(self, first: dt.date | None, last: dt.date | None) -> Result:
        """Fetch and load. With `first`, days that were loaded before are fetched again, else those that are missing."""
        began = time.monotonic()
        run = runs.begin(self._connection, self._source)
        outcome, error = "done", None
        try:
            with ExitStack() as opened:
                with _stops_held_back():
                    provider = opened.enter_context(chosen(self._settings))
                self._fetch(run, provider, first, last)
        except (ProviderError, psycopg.Error) as failure:
            outcome, error = "failed", one_line(failure)
        except KeyboardInterrupt:
            outcome, error = "interrupted", "it was stopped"
        self._end(run, outcome, error)
        days = [day.isoformat() for day in self._days]
        return Result(
            outcome=outcome,
            source=self._source,
            days=len(days),
            first_day=days[0] if days else None,
            last_day=days[-1] if days else None,
            rows=self._rows,
            changed=self._changed,
            error=error,
            seconds=round(time.monotonic() - began, 3),
        )

    def _fetch(self, run: int, provider: Provider, first: dt.date | None, last: dt.date | None) -> None:
        days = provider.trading_days(first or self._settings.sync_from, last or latest(self._settings))
        if first is None:
            days = runs.missing(self._connection, days, self._source)
        if not days:
            return
        logger.info("sync begins", source=self._source, days=len(days), first=str(days[0]), last=str(days[-1]))
        self._keep(provider.shares())
        for batch in provider.batches(days):
            with self._connection.transaction():
                loaded = load(self._connection, batch.parts, batch.refused, batch.place)
                # A run covers its days without a gap: up to the first one that could not be loaded.
                bad = dt.date.min if batch.refused.anywhere else min(batch.refused.days, default=dt.date.max)
                runs.advance(self._connection, run, [day for day in batch.days if day < bad], loaded)
            self._days += loaded.days
            self._rows += loaded.rows
            self._changed += loaded.changed
            logger.info("loaded", last=str(batch.days[-1]), days=len(self._days), of=len(days), rows=self._rows)
            if error := batch.refused.told(batch.place):
                raise ProviderError(error)

    def _keep(self, shares: Iterable[Share]) -> None:
        rows = [(share.symbol, share.name, share.symbol, share.listing_date) for share in shares]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(_SHARES, rows)

    def _end(self, run: int, outcome: str, error: str | None) -> None:
        """Write down how it ended; where the database is away, whoever comes next does."""
        try:
            if outcome == "done" and not self._days:
                runs.finish_idle(self._connection, run)
            else:
                runs.finish(self._connection, run, outcome, error)
        except psycopg.Error as failure:
            logger.warning("the end of the run was not written down", error=one_line(failure))


@contextmanager
def _stops_held_back() -> Iterator[None]:
    """Heed a signal to stop at the end of a block that imports, not within.

    An import ends in callbacks of weak references, and an exception that a signal raises in one of those is dropped.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def latest(settings: Settings) -> dt.date:
    """Return the last day, by the clock of Asia/Shanghai, whose bars there may be."""
    now = dt.datetime.now(SHANGHAI)
    return now.date() if now.time() >= settings.sync_at else now.date() - dt.timedelta(days=1)


def sync(settings: Settings, first: dt.date | None = None, last: dt.date | None = None) -> Result:
    """Run the sync, unless one is running already, and return what it did."""
    try:
        with closing(connect(settings, "stockhelper-sync")) as connection, runs.lock(connection) as mine:
            if not mine:
                return Result("busy", error="another sync is at work")
            runs.close_abandoned(connection)
            try:
                return Sync(settings, connection).run(first, last)
            except KeyboardInterrupt:
                # As it began or ended: whether that was written down is not known.
                runs.close_abandoned(connection)
                raise
    except psycopg.Error as failure:
        return Result("failed", error=one_line(failure))
    except KeyboardInterrupt:
        return Result("interrupted", error="it was stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser("python -m stockhelper_app.sync", description="Fetch the bars that are missing.")
    parser.add_argument(
        "--from", dest="first", type=dt.date.fromisoformat, metavar="DAY", help="fetch from this day on again"
    )
    parser.add_argument("--to", dest="last", type=dt.date.fromisoformat, metavar="DAY", help="fetch no later day")
    chosen_days = parser.parse_args(arguments)
    if chosen_days.first and chosen_days.last and chosen_days.first > chosen_days.last:
        parser.error("--from is after --to")
    try:
        # A container that stops sends SIGTERM; psycopg cancels what it waits for on the exception that Ctrl-C raises.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        settings = load_settings(Settings)
        logs.configure(settings.log_level)
        result = sync(settings, chosen_days.first, chosen_days.last)
        _ignore_signals()
    except SettingsError as error:
        print(f"settings cannot be used: {error}", file=sys.stderr)
        return runs.ExitCode.FAILED
    except KeyboardInterrupt:
        # Before it had begun, or just as it ended.
        _ignore_signals()
        result = Result("interrupted", error="it was stopped")
    # In the log's form, but whatever its level: it is the answer to who started this.
    line = {
        "event": "sync ends",
        "level": "error" if result.outcome == "failed" else "info",
        "logger": NAME,
        "timestamp": dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z"),
        "result": asdict(result),
    }
    print(json.dumps(line, ensure_ascii=False), flush=True)
    return runs.ExitCode[result.outcome.upper()]


def _ignore_signals() -> None:
    """It has ended: whoever stops it once more must not make a failure of its end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
