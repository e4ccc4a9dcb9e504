"""`stockhelper doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from stockhelper_cli.commands.context import Invocation, verb
from stockhelper_cli.errors import ExitCode, StockhelperError
from stockhelper_cli.findings import Finding, Status
from stockhelper_cli.lock import exclusive

if TYPE_CHECKING:
    from stockhelper_cli.doctor.check import Check
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.report import Report

_STYLES: Final = {Status.FAILED: "bold red", Status.WARNING: "bold yellow"}


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
    report_file: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write what a bug report needs, without secrets, as .tar.gz."),
    ] = None,
) -> None:
    """Say what is wrong, what shows it, and what to type.

    An ID is a check's, or what stands before its dot for all of those; --only and --skip may be repeated. Exits 1 if
    something failed, 4 if the engine cannot be asked; with --report 0 once the file is written.
    """
    if ids and not fix:
        raise StockhelperError("usage", f"{' '.join(ids)} without --fix", next=["stockhelper doctor --only ID"])
    if report_file is not None:
        if fix or only or skip or list_checks:
            raise StockhelperError("usage", "--report stands alone: it makes every check, and mends nothing")
        _report(invocation, invocation.directory / report_file)
        return
    from stockhelper_cli.doctor.catalogue import chosen, ids_of

    checks = chosen(only or (), skip or ())
    everything = {check.id for check in checks}
    if list_checks:
        rows = [_described(check) for check in checks]
        invocation.console.succeed("doctor", {"checks": rows}, lambda show: _render_list(rows, show))
        return
    shown, to_mend = ids_of(only or ()) or everything, ids_of(ids or ()) or everything
    report = _examine(invocation, checks, shown)
    mended: list[str] = []
    fixable = [finding for finding in report.findings if finding.fix and finding.id in to_mend]
    if fix and fixable:
        mended = _mend(invocation, checks, fixable)
        report = _examine(invocation, checks, shown)
    invocation.console.succeed(
        "doctor",
        {**report.as_json(), "fixed": mended},
        lambda show: _render(report, mended, show),
        ok=report.exit_code is ExitCode.DONE,
    )
    if report.exit_code is not ExitCode.DONE:
        raise typer.Exit(report.exit_code)


def context_of(invocation: Invocation, **given: Any) -> Context:
    """Return what checks ask, for one call of the command."""
    from stockhelper_cli.doctor.context import Context

    return Context(invocation.environ, invocation.root, invocation.project, **given)


def _examine(invocation: Invocation, checks: Sequence[Check], shown: set[str]) -> Report:
    from stockhelper_cli.doctor.report import examine

    with closing(context_of(invocation)) as context:
        return examine(checks, context, shown=shown)


def _report(invocation: Invocation, file: Path) -> None:
    """Examine everything, and write the file."""
    from stockhelper_cli.doctor.bundle import refuse_existing, write_bundle
    from stockhelper_cli.doctor.catalogue import chosen
    from stockhelper_cli.doctor.report import examine

    refuse_existing(file)
    checks = chosen((), ())
    with closing(context_of(invocation)) as context:
        report = examine(checks, context, shown={check.id for check in checks})
        bundle = write_bundle(file, context, report)

    def render(show: Callable[..., None]) -> None:
        show(_summary(report))
        for line in bundle.missing:
            show(f"missing: {line}", markup=False)
        show(f"wrote {bundle.path} ({bundle.size / 1000:.0f} kB)", markup=False)
        show("Secrets are masked in it; look through it before you give it to anybody.")

    invocation.console.succeed("doctor", {"report": bundle.as_json(), "counts": report.as_json()["counts"]}, render)


def _mend(invocation: Invocation, checks: Sequence[Check], fixable: Sequence[Finding]) -> list[str]:
    """Show what will be done, ask, do it, and return the ids of what was mended."""
    by_id = {check.id: check for check in checks}
    for finding in fixable:
        invocation.console.note(("fix ", "bold"), (finding.id, "cyan"), f": {finding.fix}")
    invocation.confirm("Do this?", "yes")
    for finding in sorted(fixable, key=lambda finding: by_id[finding.id].mends_by_up):
        # Anew for each: what one mends may be what another asks for.
        with (
            closing(context_of(invocation, call_seconds=None)) as context,
            _locked(context),
            invocation.console.progress() as emit,
        ):
            by_id[finding.id].mend(context, emit)
    return [finding.id for finding in fixable]


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


def _described(check: Check) -> dict[str, str]:
    return {"id": check.id, "group": check.group.value, "title": check.title, "fix": check.fixes}


def _render_list(rows: Sequence[dict[str, str]], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import table

    lines = []
    for row in rows:
        lines.append((row["id"], row["title"]))
        lines += [("", f"--fix {row['fix']}")] if row["fix"] else []
    show(table(("ID", "WELL IF"), lines))


def _render(report: Report, mended: Sequence[str], show: Callable[..., None]) -> None:
    from stockhelper_cli.console import findings_table, paint

    width = max((len(finding.id) for finding in report.findings), default=0)
    if problems := report.problems:
        show(findings_table(problems, width=width))
    well = [finding for finding in report.findings if not finding.bad]
    for group in dict.fromkeys(finding.group for finding in well):
        show(paint((group, "bold")))
        show(findings_table([finding for finding in well if finding.group == group], width=width))
    style = _STYLES[problems[0].status] if problems else "bold green"
    show(paint((_summary(report), style), f"; mended: {', '.join(mended)}" if mended else ""))
    if fixable := [finding.id for finding in report.findings if finding.fix]:
        show(paint("  next: ", (f"stockhelper doctor --fix {' '.join(fixable)}", "cyan")))


def _summary(report: Report) -> str:
    """Return how many there are of each status, those with problems by their ids, which may have left the screen."""
    told = []
    for status in (Status.FAILED, Status.WARNING, Status.OK, Status.SKIPPED):
        if ids := report.of(status):
            word = "warnings" if status is Status.WARNING and len(ids) > 1 else status.value
            told.append(f"{len(ids)} {word}" + (f" ({', '.join(ids)})" if status in _STYLES else ""))
    return ", ".join(told)
