"""Where bars come from: one small protocol, and a module for each provider.

A provider is asked in this order: for its trading days, for its shares, and then for the bars of those days that are
missing, which it hands over in the batches that it gets them in. Runs are written down under the provider's name: days
that one has covered are not another's.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from stockhelper_app.bars import Refused
from stockhelper_app.loading import Rows

if TYPE_CHECKING:
    from stockhelper_app.settings import Settings


class ProviderError(Exception):
    """The provider cannot be reached, refuses, or answers what cannot be used; one line, and no secret in it."""


@dataclass(frozen=True, slots=True)
class Share:
    """A listed share, as its exchange calls it."""

    symbol: str
    name: str
    listing_date: dt.date | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """All bars of some days: what is loaded in one transaction.

    Rows that cannot be read are in `refused` once the others are; `place` tells where a row stands by its number.
    """

    days: Sequence[dt.date]
    parts: Iterable[Rows]
    refused: Refused = field(default_factory=Refused)
    place: Callable[[int], str] = "row {}".format


class Provider(Protocol):
    """Somebody who knows the bars of each trading day. Every method raises `ProviderError`."""

    def trading_days(self, first: dt.date | None, last: dt.date) -> list[dt.date]:
        """Return the trading days from `first`, or from where it thinks fit, to `last`, both included, ascending."""

    def shares(self) -> Iterator[Share]:
        """Yield the shares that are listed."""

    def batches(self, days: Sequence[dt.date]) -> Iterator[Batch]:
        """Yield the bars of these trading days, ascending; each day is in one batch, whole."""


def name_of(settings: "Settings") -> str:
    """Return the name of the provider that the settings choose: Tushare where there is a token, else CSV files."""
    return "csv" if settings.tushare_token is None else "tushare"


def chosen(settings: "Settings") -> AbstractContextManager[Provider]:
    """Return the provider that the settings choose, for a `with` block, which may raise `ProviderError`."""
    if name_of(settings) == "tushare":
        from stockhelper_app.providers.tushare import Tushare

        return Tushare.of(settings)
    from stockhelper_app.providers.csv_files import CsvFiles

    return CsvFiles.of(settings)
