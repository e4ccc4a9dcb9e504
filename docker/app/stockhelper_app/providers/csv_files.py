"""Bars from a folder of CSV files; without a folder, from the sample that comes with the service, which is made up.

Every `*.csv` holds bars, as `bars` describes them, but `stocks.csv`, which may name shares: symbol,name,listing_date.
"""

import csv
import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from stockhelper_app.bars import SYMBOL, BarFile, Refused, UnusableFile
from stockhelper_app.providers import Batch, ProviderError, Share

if TYPE_CHECKING:
    from stockhelper_app.settings import Settings

logger = structlog.get_logger(__name__)

SAMPLE: Final = Path(__file__).parents[1] / "sample"
_SHARES: Final = "stocks.csv"
#: Lines of one file are told from those of the next by this much.
_APART: Final = 1 << 40


class CsvFiles:
    """The CSV files of a folder. A day is a trading day if a file has a bar of it."""

    def __init__(self, folder: Path) -> None:
        """Take the files of a folder. Raises `ProviderError` if there are none."""
        try:
            found = sorted(path for path in folder.iterdir() if path.suffix == ".csv")
        except OSError as error:
            raise ProviderError(f"{folder}: {error.strerror}") from error
        self._shares = next((path for path in found if path.name == _SHARES), None)
        self._files = [path for path in found if path.name != _SHARES]
        if not self._files:
            raise ProviderError(f"{folder} has no CSV file of bars")

    @classmethod
    @contextmanager
    def of(cls, settings: "Settings") -> Iterator["CsvFiles"]:
        """Return what the settings say: the files of CSV_DIR, or the sample where that is no folder."""
        folder = settings.csv_dir
        if folder is None or not folder.is_dir():
            logger.info("no CSV_DIR and no TUSHARE_TOKEN: the bars are the made-up sample's")
            folder = SAMPLE
        yield cls(folder)

    def trading_days(self, first: dt.date | None, last: dt.date) -> list[dt.date]:
        """Return the days that the files have bars of, good or bad; with None, from the first of them on.

        Raises `ProviderError` for a row whose day cannot be read: no day is known to be complete then, and to say that
        none is missing would be wrong.
        """
        refused = Refused()
        found: set[dt.date] = set()
        for file in self._open(refused):
            for _ in file:
                pass
            found |= file.days()
        if refused.anywhere:
            raise ProviderError(refused.told(self._place))
        found |= refused.days
        return sorted(day for day in found if (first is None or first <= day) and day <= last)

    def shares(self) -> Iterator[Share]:
        """Yield the shares that `stocks.csv` names, if there is one."""
        if self._shares is None:
            return
        with self._readable(self._shares), self._shares.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(line for line in stream if not line.startswith("#")):
                symbol, name, listed = (str(row.get(key) or "") for key in ("symbol", "name", "listing_date"))
                if not SYMBOL.fullmatch(symbol) or not name:
                    raise UnusableFile(f"names no share: {symbol!r}, {name!r}")
                yield Share(symbol, name, dt.date.fromisoformat(listed) if listed else None)

    def batches(self, days: Sequence[dt.date]) -> Iterator[Batch]:
        """Yield all of these days at once: the files may be sorted by share."""
        refused = Refused()
        yield Batch(days, self._open(refused, only=frozenset(days)), refused, self._place)

    def _open(self, refused: Refused, only: frozenset[dt.date] | None = None) -> Iterator[BarFile]:
        for number, path in enumerate(self._files):
            with self._readable(path), path.open("rb") as stream:
                yield BarFile(stream, refused, only=only, before=number * _APART)

    def _place(self, number: int) -> str:
        file, line = divmod(number, _APART)
        return f"{self._files[file].name}:{line}"

    @contextmanager
    def _readable(self, path: Path) -> Iterator[None]:
        """Raise what a file is not as a `ProviderError` that names it."""
        try:
            yield
        except OSError as error:
            raise ProviderError(f"{path}: {error.strerror}") from error
        except (ValueError, csv.Error) as error:
            raise ProviderError(f"{path}: {error}") from error
