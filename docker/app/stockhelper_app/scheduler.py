"""When the sync runs: after the market has closed, and at start for what was missed meanwhile.

The sync is a process of its own (`stockhelper_app.sync`), so that what it needs of memory and imports is not the
service's, and goes when it ends. Every worker of every container has a schedule; a lock in the database sees to it that
one of them starts the process. It fetches all days that are missing, so it does not matter which ticks were missed.
"""

import asyncio
import datetime as dt
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
import structlog

from stockhelper_app.bars import SHANGHAI
from stockhelper_app.db import connect_async, one_line
from stockhelper_app.runs import LOCK_KEY as SYNC_KEY
from stockhelper_app.runs import ExitCode
from stockhelper_app.settings import Settings

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

logger = structlog.get_logger(__name__)

#: The advisory lock of whoever has started a sync, for as long as that runs.
LOCK_KEY: Final = 0x73746F636B746963
#: Seconds after the start until missed days are looked for: the service answers first.
_AFTER_START: Final = 2.0
#: Seconds until a sync that failed is tried again; twice as long each time, up to an hour.
_RETRY: Final = 60.0
_RETRY_MOST: Final = 3600.0
#: Seconds that a sync may take to stop.
_GRACE: Final = 5.0


class Busy(Exception):
    """Another sync is at work."""


class Syncs:
    """Starts syncs, one at a time in all workers and containers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        #: Whether it was told to end.
        self._told = False
        self._closed = False
        self._started: set[asyncio.Task[int]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, *arguments: str) -> int:
        """Run `stockhelper_app.sync` with these arguments and return its exit code.

        Raises `Busy`, and `psycopg.Error` where the database does not answer.
        """
        return await self._run(arguments)

    async def start(self, *arguments: str, within: float) -> None:
        """Do what `run` does, but come back as soon as the process has started, within so many seconds.

        Raises what `run` does, and `TimeoutError`.
        """
        started = asyncio.Event()
        run = asyncio.create_task(self._run(arguments, started))
        self._started.add(run)
        run.add_done_callback(self._forget)
        beginning = asyncio.create_task(started.wait())
        try:
            await asyncio.wait({run, beginning}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            beginning.cancel()
        if started.is_set():
            return
        if not run.done():
            run.cancel()
            raise TimeoutError(f"no answer within {within:.0f} s")
        await run

    def _forget(self, run: asyncio.Task[int]) -> None:
        self._started.discard(run)
        # Asked for, so that asyncio does not report it as never retrieved; `start` raises it, or the sync has told.
        if not run.cancelled():
            run.exception()

    async def _run(self, arguments: tuple[str, ...], started: asyncio.Event | None = None) -> int:
        async with self._turn():
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "stockhelper_app.sync", *arguments, stdin=asyncio.subprocess.DEVNULL
            )
            self._told = False
            if started is not None:
                started.set()
            try:
                if self._closed:
                    # While the process was being started.
                    await self._end()
                return await self._process.wait()
            finally:
                await self._end()

    async def close(self) -> None:
        """End the sync that runs or is being started, if one is: it takes back what it has not loaded whole."""
        self._closed = True
        await self._end()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), _GRACE)

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            # Once: a second signal would break off what the first one begins, the end of the run in the database.
            if not self._told:
                self._told = True
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _GRACE)
            except TimeoutError:
                process.kill()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Hold the lock of who has started a sync. Raises `Busy` when another has, or when one runs anyway."""
        if not self._idle.is_set():
            raise Busy
        self._idle.clear()
        try:
            async with await connect_async(self._settings, "stockhelper-scheduler") as connection:
                for key in (LOCK_KEY, SYNC_KEY):
                    answer = await connection.execute("SELECT pg_try_advisory_lock(%s)", (key,))
                    if await answer.fetchone() != (True,):
                        raise Busy
                # That one is for the process itself.
                await connection.execute("SELECT pg_advisory_unlock(%s)", (SYNC_KEY,))
                yield
        finally:
            self._idle.set()


class Schedule:
    """One worker's schedule: at start, at SYNC_AT, and again after a failure."""

    def __init__(self, settings: Settings, syncs: Syncs) -> None:
        self._settings, self._syncs = settings, syncs
        self._scheduler: AsyncIOScheduler | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._failures = 0

    def start(self) -> None:
        """Begin in a moment: the service answers first."""
        self._beginning = asyncio.create_task(self._begin())

    def stop(self) -> None:
        """Let nothing begin any more."""
        if self._beginning is not None:
            self._beginning.cancel()
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)

    def next_run(self) -> dt.datetime | None:
        """Return when the next sync begins; None before the schedule has."""
        times = [job.next_run_time for job in self._scheduler.get_jobs()] if self._scheduler is not None else []
        return min(times, default=None)

    async def _begin(self) -> None:
        await asyncio.sleep(_AFTER_START)
        # A tenth of a second of imports, which no request has to wait for.
        scheduler_class, cron, _ = await asyncio.to_thread(_apscheduler)
        scheduler = scheduler_class(timezone=SHANGHAI)
        at = self._settings.sync_at
        # However late it is: which days are missing does not depend on when it is asked.
        options = {"coalesce": True, "misfire_grace_time": None}
        scheduler.add_job(self._tick, cron(hour=at.hour, minute=at.minute, timezone=SHANGHAI), id="daily", **options)
        scheduler.add_job(self._tick, id="start", **options)
        scheduler.start()
        self._scheduler = scheduler

    async def _tick(self) -> None:
        """Run the sync, and once more in a while if it fails."""
        try:
            code = await self._syncs.run()
        except Busy:
            logger.debug("the sync is another's")
            return
        except (psycopg.Error, OSError) as error:
            logger.warning("the sync could not be started", error=one_line(error))
            code = None
        if code in (ExitCode.DONE, ExitCode.BUSY):
            self._failures = 0
            logger.debug("the sync has ended")
            return
        pause = min(_RETRY * 2**self._failures, _RETRY_MOST)
        self._failures += 1
        logger.warning("the sync is tried again", seconds=pause)
        if self._scheduler is not None:
            _, _, date = _apscheduler()
            when = dt.datetime.now(SHANGHAI) + dt.timedelta(seconds=pause)
            self._scheduler.add_job(self._tick, date(when), id="retry", replace_existing=True, misfire_grace_time=None)


def _apscheduler() -> tuple[Any, Any, Any]:
    """Return the scheduler's class and those of its two triggers; only here are they imported."""
    from apscheduler.schedulers.asyncio import AsyncIOScheduler
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.date import DateTrigger

    return AsyncIOScheduler, CronTrigger, DateTrigger
