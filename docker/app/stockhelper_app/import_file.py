"""Take in one CSV file of bars from stdin, in one transaction: `python -m stockhelper_app.import_file NAME`.

The file is followed by a line `\\.`, which is not part of it: without it the file has broken off, and nothing is
loaded. A day with a bad row stays what it was, and the other days are loaded; where the day of a bad row is unknown,
none is. The last line on stdout is `{"result": {…}}`. Exit codes: 0 done, 1 failed, or there were bad rows.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Final

import psycopg

from stockhelper_app import runs
from stockhelper_app.bars import BarFile, Refused, Source, UnusableFile
from stockhelper_app.db import connect, one_line
from stockhelper_app.loading import Loaded, load
from stockhelper_app.settings import Settings, SettingsError
from stockhelper_app.settings import load as load_settings

#: What follows a file. As psql's own mark, but looked for in one place only: at the very end.
END: Final = b"\\.\n"
#: How many bad rows are told one by one.
_TOLD: Final = 100


class BrokenOff(UnusableFile):
    """The file did not come to its end."""

    def __init__(self) -> None:
        super().__init__("it broke off before its end")


class Whole:
    """A stream without the mark at its end. Raises `BrokenOff` at the end of one that has none."""

    def __init__(self, stream: Source) -> None:
        self._stream = stream
        self._held = b""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes of the file, none only at its end."""
        while data := self._stream.read(size):
            data = self._held + data
            self._held = data[-len(END) :]
            if data := data[: -len(END)]:
                return data
        if self._held != END:
            raise BrokenOff
        return b""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a file. `bad` tells the first bad rows, `bad_rows` counts all; days are as in ISO 8601."""

    rows: int = 0
    changed: int = 0
    days: int = 0
    first_day: str | None = None
    last_day: str | None = None
    bad_rows: int = 0
    bad: tuple[dict[str, str | int], ...] = ()
    refused_days: tuple[str, ...] = ()
    error: str | None = None


def import_file(settings: Settings, name: str, stream: Source) -> Result:
    """Load a file, write the run down, and return what came of it."""
    refused = Refused()
    try:
        with closing(connect(settings, "stockhelper-import")) as connection:
            try:
                with connection.transaction():
                    loaded = load(connection, (BarFile(Whole(stream), refused),), refused)
                    refused.rows.sort(key=lambda row: row.line)
                    runs.record_import(connection, name, loaded, refused.told("line {}".format))
            except UnusableFile as failure:
                runs.record_import(connection, name, Loaded(), str(failure))
                return Result(error=str(failure))
    except psycopg.Error as failure:
        return Result(error=one_line(failure))
    return _result(loaded, refused)


def _result(loaded: Loaded, refused: Refused) -> Result:
    days = [day.isoformat() for day in loaded.days]
    return Result(
        rows=loaded.rows,
        changed=loaded.changed,
        days=len(days),
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        bad_rows=refused.count,
        bad=tuple({"line": row.line, "reason": row.reason} for row in refused.rows[:_TOLD]),
        refused_days=tuple(day.isoformat() for day in sorted(refused.days)),
        error=None,
    )


def main(arguments: Sequence[str]) -> int:
    """Take in the file on stdin, by the name that it is written down under; return the exit code."""
    try:
        settings = load_settings(Settings)
    except SettingsError as error:
        result = Result(error=f"settings cannot be used: {error}")
    else:
        result = import_file(settings, arguments[0], sys.stdin.buffer)
    print(json.dumps({"result": asdict(result)}, ensure_ascii=False), flush=True)
    return 1 if result.error or result.bad_rows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
