"""`stockhelper doctor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import ExitCode, StockhelperError
from stockhelper_cli.findings import Finding, Status
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.doctor.check import Check
    from stockhelper_cli.doctor.context import Context

_Names = Annotated[list[str] | None, typer.Option(metavar="ID", show_default=False)]


_BAD: Final = (Status.FAILED, Status.WARNING)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "doctor")(doctor)


def doctor(
    invocation: Invocation,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", show_default=False, help="With --fix: mend only these.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended safely, then look again.")] = False,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="ID", help="Make only this check.")] = None,
    skip: Annotated[list[str] | None, typer.Option("--skip", metavar="ID", help="Leave this check out.")] = None,
    list_checks: Annotated[bool, typer.Option("--list", help="Show which checks there are.")] = False,
) -> None:
    """Say what is wrong, what shows it, and what to type.

    An ID is a check's, or what stands before its dot for all of those; --only and --skip may be repeated. Exits 1 if
    something failed, 4 if the engine cannot be asked.
    """
    from stockhelper_cli.doctor.catalogue import chosen, ids_of

    if ids and not fix:
        raise StockhelperError("usage", f"{' '.join(ids)} without --fix", next=["stockhelper doctor --only ID"])
    checks = chosen(only or (), skip or ())
    if list_checks:
        rows = [_described(check) for check in checks]
        invocation.console.succeed("doctor", {"checks": rows}, lambda show: _render_list(rows, show))
        return
    shown = ids_of(only) if only else {check.id for check in checks}
    to_mend = ids_of(ids or ()) or {check.id for check in checks}
    findings, fixed = _examine(invocation, checks), []
    if fix:
        announced = [finding for finding in findings if finding.fix and finding.id in to_mend]
        if announced:
            fixed = _mend(invocation, checks, announced)
            findings = _examine(invocation, checks)
    # What was not asked for is told only where it is why something else was skipped.
    findings = [finding for finding in findings if finding.id in shown or finding.status is Status.FAILED]
    code = exit_code(checks, findings)
    result = {
        "findings": [finding.as_json() for finding in findings],
        "counts": {status.value: count for status, count in _counts(findings).items()},
        "fixed": fixed,
    }
    invocation.console.succeed("doctor", result, lambda show: _render(findings, fixed, show), ok=code is ExitCode.DONE)
    if code is not ExitCode.DONE:
        raise typer.Exit(code)


def context_of(invocation: Invocation, **given: Any) -> Context:
    """Return what checks ask, for one call of the command."""
    from stockhelper_cli.doctor.context import Context

    return Context(invocation.environ, invocation.root, invocation.project, **given)


def exit_code(checks: Sequence[Check], findings: Sequence[Finding]) -> ExitCode:
    """Return 0 unless something failed: then 4 where the environment is to blame, else 1."""
    failures = {finding.id for finding in findings if finding.status is Status.FAILED}
    return max((check.exit_code for check in checks if check.id in failures), default=ExitCode.DONE)


def _examine(invocation: Invocation, checks: Sequence[Check]) -> list[Finding]:
    from stockhelper_cli.doctor.judge import judge

    context = context_of(invocation)
    try:
        return judge(checks, context)
    finally:
        context.close()


def _mend(invocation: Invocation, checks: Sequence[Check], announced: Sequence[Finding]) -> list[str]:
    """Show what will be done, ask, do it, and return the ids of what was mended."""
    by_id = {check.id: check for check in checks}
    for finding in announced:
        invocation.console.note(("fix ", "bold"), (finding.id, "cyan"), f": {finding.fix}")
    invocation.confirm("Do this?", "yes")
    for finding in announced:
        context = context_of(invocation).fresh()
        try:
            with _locked(context), invocation.console.progress() as emit:
                by_id[finding.id].mend(context, emit)
        finally:
            context.close()
    return [finding.id for finding in announced]


@contextmanager
def _locked(context: Context) -> Iterator[None]:
    """Hold the project's lock, as far as there is a project and an engine."""
    try:
        engine, project = context.info.id, context.project.name
    except StockhelperError:
        lock: Any = nullcontext()
    else:
        lock = exclusive(engine, project)
    with lock:
        yield


def _counts(findings: Sequence[Finding]) -> Counter[Status]:
    return Counter({status: sum(finding.status is status for finding in findings) for status in Status})


def _described(check: Check) -> dict[str, str]:
    return {"id": check.id, "group": check.group.value, "title": check.title, "fix": check.fixes}


def _render_list(rows: Sequence[dict[str, str]], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import table

    lines = []
    for row in rows:
        lines.append((row["id"], row["title"]))
        lines += [("", f"--fix {row['fix']}")] if row["fix"] else []
    show(table(("ID", "WELL IF"), lines))


def _render(findings: Sequence[Finding], fixed: Sequence[str], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import findings_table, paint

    width = max((len(finding.id) for finding in findings), default=0)
    problems = sorted((f for f in findings if f.bad), key=lambda f: f.status is Status.WARNING)
    if problems:
        show(findings_table(problems, width=width))
    well = [finding for finding in findings if not finding.bad]
    for group in dict.fromkeys(finding.group for finding in well):
        show(paint((group, "bold")))
        show(findings_table([finding for finding in well if finding.group == group], width=width))
    worst = problems[0].status if problems else Status.OK
    style = {Status.FAILED: "bold red", Status.WARNING: "bold yellow"}.get(worst, "bold green")
    show(paint((_summary(findings), style), f"; mended: {', '.join(fixed)}" if fixed else ""))
    if fixable := [finding.id for finding in findings if finding.fix]:
        show(paint("  next: ", (f"stockhelper doctor --fix {' '.join(fixable)}", "cyan")))


def _summary(findings: Sequence[Finding]) -> str:
    """Return how many there are of each status, those with problems by their ids, which may have left the screen."""
    told = []
    for status in (Status.FAILED, Status.WARNING, Status.OK, Status.SKIPPED):
        if ids := [finding.id for finding in findings if finding.status is status]:
            word = "warnings" if status is Status.WARNING and len(ids) > 1 else status.value
            told.append(f"{len(ids)} {word}" + (f" ({', '.join(ids)})" if status in _BAD else ""))
    return ", ".join(told)
