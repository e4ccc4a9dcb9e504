"""`db.sessions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import ok, warning
from stockhelper_cli.doctor.database import DatabaseCheck

if TYPE_CHECKING:
    from stockhelper_cli.database.vitals import OpenTransaction
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.findings import Finding

#: Seconds that a session may do nothing in a transaction, may be at work in one, and may hold up others by its locks.
IDLE_SECONDS: Final = 60.0
BUSY_SECONDS: Final = 1800.0
HOLDING_SECONDS: Final = 5.0


class DbSessions(DatabaseCheck):
    """Looks for transactions that are left open: migrations wait for their locks, and VACUUM removes nothing."""

    id = "db.sessions"
    title = "no session keeps a transaction open for long, or others waiting"
    needs = ("db.connections",)
    explains = frozenset({"migration.failed"})

    def look(self, context: Context, database: Database) -> Finding:
        """Look at each; a backup's own is not among them."""
        transactions = context.vitals.transactions
        bad = [(each, why) for each in transactions if (why := _complaint(each))]
        if not bad:
            return ok(f"in a transaction: {', '.join(map(_whose, transactions)) or 'none'}")
        return warning(
            "; ".join(f"{_whose(each)} {why}" for each, why in bad),
            "a migration that needs what it has locked waits for it, and what is deleted meanwhile takes up room",
            remedy="end the transaction where it was begun, or the session; what it has not committed is lost:",
            commands=[f"stockhelper psql -- -c 'SELECT pg_terminate_backend({each.pid})'" for each, _ in bad],
        )


def _complaint(transaction: OpenTransaction) -> str:
    if transaction.waiting and transaction.seconds >= HOLDING_SECONDS:
        others = "another" if transaction.waiting == 1 else f"{transaction.waiting} others"
        return f"has kept {others} waiting, in a transaction of {transaction.seconds:.0f} s"
    if transaction.state.startswith("idle") and transaction.since >= IDLE_SECONDS:
        return f"has done nothing for {transaction.since:.0f} s in a transaction that is open"
    if transaction.seconds >= BUSY_SECONDS:
        return f"has been in one transaction for {transaction.seconds:.0f} s"
    return ""


def _whose(transaction: OpenTransaction) -> str:
    application = f", {transaction.application}" if transaction.application else ""
    return f"session {transaction.pid} ({transaction.user}{application})"
