"""Why a command failed: the findings of the checks that know its error, told beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.catalogue import all_checks, chosen
from stockhelper_cli.doctor.judge import judge

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.errors import StockhelperError
    from stockhelper_cli.findings import Finding

#: What the failed command had already: it is not examined again.
ASSUMED: Final = ("engine.reachable", "config.project", "config.env", "config.values", "config.compose")
#: Seconds that each check may take: the user waits for an error that is known already.
EXPLAIN_SECONDS: Final = 3.0


def explain(error: StockhelperError, context: Context) -> tuple[Finding, ...]:
    """Return the failures and warnings of the checks that explain an error; none if no check does.

    `context` is given the project and the engine that the failed command had.
    """
    explaining = [check.id for check in all_checks() if error.code in check.explains]
    if not explaining:
        return ()
    findings = judge(chosen(explaining, ASSUMED), context, assumed=ASSUMED, limit_seconds=EXPLAIN_SECONDS)
    # One that was not ready in time has found nothing.
    return tuple(finding for finding in findings if finding.bad and finding.seconds < EXPLAIN_SECONDS)
