"""What a person sees: the only module that turns facts into text, and the only one that imports rich.

Progress and messages go to stderr, results to stdout. On a terminal progress is a live view, one row a resource; in a
pipe or in CI one line for each thing done; with `--json` there is none, and stdout gets exactly one object.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TextIO

from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Emit, Event, Phase, Warned
from stockhelper_cli.findings import Finding, Status

if TYPE_CHECKING:
    import rich.console
    import rich.table
    import rich.text

#: The version of the object that `--json` prints.
SCHEMA: Final = 1

_STDERR: Final = 2
_NAME: Final = "stockhelper"
#: Our name at the beginning of a command, not within a path or another name.
_OURS: Final = re.compile(r"(?<![\w./-])stockhelper (?=[a-z-])")
#: The style of what a person is to type.
_TO_TYPE: Final = "cyan"

_PAST: Final = {
    "build": "built",
    "connect": "connected",
    "copy": "copied",
    "count": "counted",
    "create": "created",
    "dump": "dumped",
    "import": "imported",
    "install": "installed",
    "load": "loaded",
    "prepare": "prepared",
    "pull": "pulled",
    "read": "read",
    "remove": "removed",
    "rename": "renamed",
    "repair": "repaired",
    "restore": "restored",
    "start": "started",
    "stop": "stopped",
    "swap": "swapped",
    "sync": "synced",
    "unpause": "unpaused",
    "verify": "verified",
    "wait": "ready",
    "write": "written",
}
#: How many characters a bar of progress has.
_BAR: Final = 20
#: Cyan, yellow, green, magenta, blue, and their bright forms: all can be read on light and dark.
_TINTS: Final = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
#: Spaces between the columns of a table, and how narrow one may become that is folded.
_COLUMN_GAP: Final = 2
_LEAST_COLUMN: Final = 12
_PRESENT: Final = {"stop": "stopping", "wait": "waiting"}
#: Verbs whose beginning is worth a line in a pipe: they take long enough to make one wonder.
_LONG: Final = frozenset({"build", "copy", "dump", "import", "install", "pull", "read", "restore", "sync", "verify"})


@dataclass(slots=True)
class Console:
    """One command's output. `json` and `quiet` are the global options, `color` is whether colour may be used."""

    json: bool = False
    quiet: bool = False
    color: bool = True
    warnings: list[str] = field(default_factory=list)

    # --- results
    def succeed(
        self, command: str, result: Mapping[str, Any], render: Callable[[Callable[..., None]], None], *, ok: bool = True
    ) -> None:
        """Show a result: as `--json`'s object, else by `render`, which is given a function that prints to stdout."""
        if self.json:
            self._print_json(command, ok=ok, result=result, error=None)
        else:
            render(self._out(stderr=False).print)

    def fail(self, command: str, error: StockhelperError) -> None:
        """Show a failure: what failed, the lines that show it, why, and what to type next."""
        if self.json:
            self._print_json(
                command,
                ok=False,
                result=None,
                error={
                    "code": error.code,
                    "message": error.message,
                    "cause": error.cause,
                    "details": list(error.details),
                    "next": list(error.next),
                    "findings": [finding.as_json() for finding in error.findings],
                },
            )
            return
        console = self._out(stderr=True)
        _print_behind(console, ("error: ", "bold red"), (error.message, "bold"))
        for line in error.details:
            console.print(_text(("  | ", "dim"), line))
        if error.cause:
            _print_behind(console, ("  why:  ", "dim"), error.cause)
        for command_line in error.next:
            # Broken by the terminal itself, if at all: so it is copied as the one line that it is.
            console.print(_text(("  next: ", "dim"), (command_line, _TO_TYPE)), soft_wrap=True)
        # One that says the same would only say it twice.
        if findings := [finding for finding in error.findings if finding.summary != error.message]:
            console.print(_text(("what doctor finds:", "dim")))
            console.print(findings_table(findings, stderr=True))

    def _print_json(
        self, command: str, *, ok: bool, result: Mapping[str, Any] | None, error: Mapping[str, Any] | None
    ) -> None:
        import json

        answer = {
            "schema": SCHEMA,
            "command": command,
            "ok": ok,
            "result": result,
            "warnings": self.warnings,
            "error": error,
        }
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def json_line(self, result: Mapping[str, Any]) -> None:
        """Print one object of a stream of them, as `logs -f --json` does."""
        self._print_json("logs", ok=True, result=result, error=None)

    def tint(self, text: str, key: str) -> str:
        """Return a text in a colour that stays the same for a key, where stdout is a terminal that shows colours."""
        if not (self.color and sys.stdout.isatty()) or os.environ.get("NO_COLOR"):
            return text
        return f"\x1b[{_TINTS[sum(key.encode()) % len(_TINTS)]}m{text}\x1b[0m"

    # --- messages and progress
    def note(self, *parts: str | tuple[str, str]) -> None:
        """Print one message to stderr, unless `--quiet` or `--json`."""
        if not (self.quiet or self.json):
            self._out(stderr=True).print(_text(*parts))

    @contextmanager
    def progress(self) -> Iterator[Emit]:
        """Show the events that are emitted within: live on a terminal, line by line elsewhere."""
        if self.quiet or self.json:
            yield self._collect
            return
        console = self._out(stderr=True)
        if isinstance(console, _Plain) or not console.is_terminal or os.environ.get("CI"):
            yield lambda event: self._line(console, event)
            return
        view = _LiveView(console, self._collect)
        with view.shown():
            yield view.emit

    def _collect(self, event: Event | Warned) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.message)
            if not (self.json or self.quiet):
                self._out(stderr=True).print(_warning(event))

    def _line(self, console: rich.console.Console | _Plain, event: Event | Warned) -> None:
        if isinstance(event, Warned):
            self._collect(event)
        elif event.phase is Phase.BEGIN and event.verb in _LONG:
            cause = f" ({event.detail})" if event.detail else ""
            console.print(_text(f"{event.verb} {event.resource}{cause} ..."))
        elif event.phase is Phase.DONE:
            past = _PAST.get(event.verb, event.verb)
            console.print(_text(f"{event.resource} {past}{_amount(event)}", _seconds(event)))
        elif event.phase is Phase.FAILED:
            console.print(_text(f"{event.resource}: {_failure(event)}", _seconds(event)))

    def _out(self, *, stderr: bool) -> rich.console.Console | _Plain:
        stream = sys.stderr if stderr else sys.stdout
        if not stream.isatty() and not os.environ.get("FORCE_COLOR"):
            return _Plain(stream)

        return _rich(stream, color=self.color)


def _rich(stream: TextIO, *, color: bool) -> rich.console.Console:
    import rich.console

    # Wide, where nobody's screen bounds it: a line in a log is for searching, not for looking at.
    width = None if stream.isatty() else 200
    return rich.console.Console(
        file=stream, highlight=False, soft_wrap=not stream.isatty(), width=width, no_color=not color or None
    )


@dataclass(frozen=True, slots=True)
class _Plain:
    """Prints where there is no terminal, without importing rich: that takes longer than a look at the stack."""

    stream: TextIO
    soft_wrap: bool = True

    def print(self, shown: object = "", **_: Any) -> None:
        """Print a text, a line or a table; there are no styles to heed."""
        self.stream.write(f"{shown}\n")


@dataclass(frozen=True, slots=True)
class _Line:
    """Plain and styled parts; nothing in them is read as markup."""

    parts: tuple[str | tuple[str, str], ...]

    def __str__(self) -> str:
        return "".join(part if isinstance(part, str) else part[0] for part in self.parts)

    def __rich__(self) -> rich.text.Text:
        from rich.text import Text

        return Text.assemble(*self.parts)


def _seconds(event: Event) -> tuple[str, str]:
    return (f"  {event.seconds:.1f} s" if event.seconds is not None else "", "dim")


def _warning(event: Warned) -> _Line:
    return _text(("warning: ", "yellow"), event.message)


def _text(*parts: str | tuple[str, str]) -> _Line:
    """Join plain and styled parts. What is to be typed is shown as it can be."""
    return _Line(
        tuple(part if isinstance(part, str) or part[1] != _TO_TYPE else (as_typed(part[0]), _TO_TYPE) for part in parts)
    )


def as_typed(command: str) -> str:
    """Return a command of ours with its path before it where the shell would not find it by its name alone."""
    own = Path(sys.argv[0])
    if own.name != _NAME or shutil.which(_NAME):
        return command
    shown = min(os.path.relpath(own), str(own.absolute()), key=len)
    return _OURS.sub(f"{shown} ", command)


def _print_behind(console: rich.console.Console | _Plain, label: tuple[str, str], text: str | tuple[str, str]) -> None:
    """Print a text whose further lines, where a terminal is too narrow for one, begin where the first does."""
    if console.soft_wrap:
        console.print(_text(label, text))
        return
    from rich.table import Table

    grid = Table.grid()
    grid.add_column(width=len(label[0]))
    grid.add_column(overflow="fold")
    grid.add_row(_text(label), _text(text))
    console.print(grid)


class _LiveView:
    """One row a resource: a mark, its name, what was done last, and how long it took."""

    def __init__(self, console: rich.console.Console, collect: Callable[[Event | Warned], None]) -> None:
        from rich.live import Live

        self._collect = collect
        self._rows: dict[str, Event] = {}
        self._lock = Lock()
        self._unicode = console.encoding.lower().startswith("utf")
        self._console = console
        self._live = Live(console=console, refresh_per_second=12, get_renderable=self._render, transient=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the view on the screen."""
        with self._live:
            yield

    def emit(self, event: Event | Warned) -> None:
        """Take in a fact; called from any thread."""
        if isinstance(event, Warned):
            self._collect(event)
            return
        with self._lock:
            self._rows[event.resource] = event

    def _render(self) -> Any:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.table import Table

        with self._lock:
            rows = list(self._rows.items())
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        # Where there is no room for both, the longer one is cut.
        table.add_column()
        table.add_column(style="dim")
        done, failed = ("✓", "✗") if self._unicode else ("+", "x")
        # As many rows as the screen holds; what is under way is never the part that is cut.
        room = max(self._console.size.height - 2, 1)
        if len(rows) > room:
            rows.sort(key=lambda row: row[1].phase in (Phase.BEGIN, Phase.PROGRESS))
            rows = rows[-room:]
        for resource, event in rows:
            match event.phase:
                case Phase.DONE:
                    state = f"{_PAST.get(event.verb, event.verb)}{_amount(event)}  {event.seconds or 0:.1f} s"
                    table.add_row(_text((done, "green")), _cut(resource), _cut(state))
                case Phase.FAILED:
                    table.add_row(_text((failed, "red")), _cut(resource), _cut(_failure(event)))
                case _:
                    spinner = self._spinner(resource, Spinner)
                    table.add_row(spinner, _cut(resource), _cut(_under_way(event)))
        return Group(table)

    def _spinner(self, resource: str, spinner: Callable[[str], Any]) -> Any:
        """Return the resource's spinner; one object for its life, or it would not turn."""
        if not hasattr(self, "_spinners"):
            self._spinners: dict[str, Any] = {}
        return self._spinners.setdefault(resource, spinner("dots" if self._unicode else "line"))


def _cut(text: str) -> rich.text.Text:
    """Return a text of one line, which ends with … where there is no room for all of it."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def _failure(event: Event) -> str:
    return "did not get ready" if event.verb == "wait" else f"could not {event.verb}"


def _amount(event: Event) -> str:
    """Return how many bytes went through an action, and how fast, "" where none were counted."""
    if event.current is None or event.total:
        return ""
    rate = f", {size(event.current / event.seconds)}/s" if event.seconds else ""
    return f"  {size(event.current)}{rate}"


def size(count: float) -> str:
    """Return a number of bytes as people read it: 512 B, 3.4 kB, 21 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if count >= 9.95 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _under_way(event: Event) -> str:
    if event.current is not None and event.total:
        done = min(event.current / event.total, 1)
        bar = ("━" * round(done * _BAR)).ljust(_BAR, "╌")
        detail = event.detail or f"{event.verb}  {done:4.0%}"
        return f"{detail}  {bar}  {event.current / 1e6:.0f} of {event.total / 1e6:.0f} MB"
    if event.current is not None:
        return f"{event.verb}{_amount(event)}"
    return event.detail if event.phase is Phase.PROGRESS else _PRESENT.get(event.verb, event.verb)


@dataclass(frozen=True, slots=True)
class _Table:
    """A borderless table, its columns as wide as what is in them.

    Where there is no room for that, the last column is folded; one for which hardly anything is left is not shown.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.headers, *self.rows]
        widths = [max(map(len, cells)) + _COLUMN_GAP for cells in zip(*lines, strict=True)]
        texts = ("".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(text.rstrip() for text in texts)

    def __rich_console__(
        self, console: rich.console.Console, options: rich.console.ConsoleOptions
    ) -> Iterator[rich.table.Table]:
        from rich.cells import cell_len
        from rich.table import Table

        grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        room = options.max_width
        shown = 0
        for header, *cells in zip(self.headers, *self.rows, strict=True):
            width = max(map(cell_len, (header, *cells)))
            if shown and room < min(width, _LEAST_COLUMN):
                break
            grid.add_column(header, overflow="fold", width=min(width, room))
            room -= width + _COLUMN_GAP
            shown += 1
        for row in self.rows:
            grid.add_row(*(_text(cell) for cell in row[:shown]))
        yield grid


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Return a table to print; what matters most comes first."""
    return _Table(headers, rows)


_MARKS: Final = {
    Status.OK: ("✓", "+", "green"),
    Status.FAILED: ("✗", "x", "bold red"),
    Status.WARNING: ("!", "!", "bold yellow"),
    Status.SKIPPED: ("-", "-", "dim"),
}


@dataclass(frozen=True, slots=True)
class _Findings:
    """A line for each finding, and below it, where its summary begins, what shows it and what to type."""

    findings: Sequence[Finding]
    width: int
    unicode: bool

    def rows(self) -> Iterator[tuple[_Line, _Line, _Line]]:
        """Yield mark, id and text of every line; the first two are empty where it goes on with a finding."""
        empty = _text("")
        arrow = "→ " if self.unicode else "-> "
        for finding in self.findings:
            mark, ascii_mark, style = _MARKS[finding.status]
            emphasis = "bold" if finding.bad else "dim" if finding.status is Status.SKIPPED else ""
            yield (
                _text(("  " + (mark if self.unicode else ascii_mark), style)),
                _text((finding.id, emphasis)),
                _text((finding.summary, emphasis)),
            )
            for line in finding.evidence:
                yield empty, empty, _text((line, "" if finding.bad else "dim"))
            for line in (*([finding.remedy] if finding.remedy else []), *finding.commands):
                yield empty, empty, _text((arrow, "dim"), (line, _TO_TYPE))

    def __str__(self) -> str:
        width = max([self.width, *(len(finding.id) for finding in self.findings)])
        return "\n".join(f"{mark!s:<3} {id!s:<{width}} {text}".rstrip() for mark, id, text in self.rows())

    def __rich__(self) -> rich.table.Table:
        from rich.table import Table

        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, min_width=self.width)
        grid.add_column(overflow="fold")
        for row in self.rows():
            grid.add_row(*row)
        return grid


def findings_table(findings: Sequence[Finding], *, width: int = 0, stderr: bool = False) -> Any:
    """Return findings to print: a line each with mark, id and summary; what shows it and what to type below.

    `width` is how many characters the ids take at least, for several tables one below the other. `stderr` says where
    it will be printed: the marks are ASCII unless that is UTF-8.
    """
    encoding = (sys.stderr if stderr else sys.stdout).encoding or ""
    return _Findings(findings, width, encoding.lower().startswith("utf"))


def show_cursor() -> None:
    """Give a terminal its cursor back, which the live view hides. May be called by a signal handler."""
    with suppress(OSError):
        if os.isatty(_STDERR):
            os.write(_STDERR, b"\x1b[?25h")


def paint(*parts: str | tuple[str, str]) -> Any:
    """Return a line to print, of plain parts and parts with a style."""
    return _text(*parts)
