"""`db.backup`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from stockhelper_cli import backup as backing
from stockhelper_cli.database.server import ServerError
from stockhelper_cli.doctor.check import failed, ok, warning
from stockhelper_cli.doctor.database import DatabaseCheck

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding

#: For how long there has been a database, in seconds: its first start writes this file, and nothing does ever again.
_AGE: Final = "SELECT extract(epoch FROM now() - (pg_stat_file('PG_VERSION')).modification)::bigint"


class DbBackup(DatabaseCheck):
    """Compares the age of the newest verified backup with BACKUP_MAX_AGE.

    Without one, the database's own age counts: what is a few days old is no danger yet.
    """

    id = "db.backup"
    title = "there is a backup that was verified, and is not too old"
    needs = ("config.values", "db.initialised")

    def look(self, context: Context, database: Database) -> Finding:
        """Ask for rows only where an age is over the limit."""
        limit = context.settings.BACKUP_MAX_AGE
        try:
            ((seconds,),) = database.server.rows(_AGE)
        except ServerError as error:
            return failed("the database's age could not be asked for", str(error))
        verified = [
            entry.manifest for entry in backing.list_backups(context.project) if entry.manifest and entry.verified
        ]
        ages = [datetime.now(UTC) - manifest.created for manifest in verified[:1]]
        told = f"the last verified backup is of {verified[0].created:%Y-%m-%d %H:%M} UTC" if verified else ""
        youngest = min([timedelta(seconds=int(seconds)), *ages])
        if youngest <= timedelta(days=limit):
            return ok(told or "no verified backup yet")
        if not backing.needed(context.project, context.engine):
            return ok("the database holds no rows")
        return warning(
            f"{told}, {ages[0].days} days ago" if told else f"no backup was verified in {youngest.days} days",
            f"BACKUP_MAX_AGE is {limit} days",
            remedy="make one, and have them made every day:",
            commands=["stockhelper backup create --verify", "stockhelper backup schedule --at 03:17"],
        )
