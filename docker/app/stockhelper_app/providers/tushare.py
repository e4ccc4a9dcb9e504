"""Bars from Tushare Pro over its HTTP API: https://tushare.pro/document/1?doc_id=130.

Every call is a POST of api_name, token, params and fields, and is answered with code, msg and a table. Volume comes in
lots of 100 shares and turnover in thousands of yuan: https://tushare.pro/document/2?doc_id=27.
"""

import datetime as dt
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx
import stamina
import stamina.instrumentation
import structlog

from stockhelper_app.bars import COLUMNS, SYMBOL
from stockhelper_app.providers import Batch, ProviderError, Share

if TYPE_CHECKING:
    from stockhelper_app.settings import Settings

logger = structlog.get_logger(__name__)

#: Days that are fetched when nothing says how far back to go.
_HISTORY: Final = dt.timedelta(days=365)
#: What the database's types can hold, and tell from nothing.
_LEAST_PRICE: Final = Decimal("0.0001")
_LEAST_FACTOR: Final = Decimal("0.000001")
_TOO_MUCH: Final = 10**7
_SHARES_A_LOT: Final = 100
_YUAN_A_THOUSAND: Final = 1000
#: Seconds; a day's bars are half a megabyte.
_TIMEOUT: Final = httpx.Timeout(30, connect=10)
_ATTEMPTS: Final = 6
#: Seconds, the length of the window in which calls are counted.
_MINUTE: Final = 60.0

# One code, 40203, stands for "too often" and "not allowed"; only the message tells them apart, in this order, as all of
# them speak of rights. What is too much for an hour or a day is not waited for: the next run goes on.
_TOO_OFTEN: Final = re.compile("每分钟")
_TOO_MUCH_TODAY: Final = re.compile("最多访问")
_NOT_ALLOWED: Final = re.compile("权限")
_FOR_NOW: Final = re.compile("内部错误|系统错误|稍后|繁忙|超时")


class NotPermitted(ProviderError):
    """The account has not enough points for this call."""


class Unavailable(ProviderError):
    """It did not work now, and may in a while; `after` is in how many seconds, where that is known."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Day:
    """The bars of one trading day, as lines for COPY."""

    columns = COLUMNS

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[bytes]:
        for number, line in enumerate(self._lines, 1):
            yield f"{number},{line}\n".encode()


class Tushare:
    """Tushare Pro, asked no more often than the account may."""

    def __init__(
        self, client: httpx.Client, url: str, token: str, *, calls_per_minute: int, minute: float = _MINUTE
    ) -> None:
        self._client, self._url, self._token = client, url, token
        self._minute = minute
        self._interval = minute / calls_per_minute
        self._next = time.monotonic()

    @classmethod
    @contextmanager
    def of(cls, settings: "Settings") -> Iterator["Tushare"]:
        """Return what the settings say, connected for as long as the block lasts."""
        assert settings.tushare_token is not None
        stamina.instrumentation.set_on_retry_hooks((_tell,))
        roots = httpx.create_ssl_context()
        file = settings.data_ca_file
        if file is not None and file.is_file() and file.stat().st_size:
            try:
                roots.load_verify_locations(file)
            except OSError as error:  # ssl.SSLError is one
                raise ProviderError(f"DATA_CA_FILE cannot be used: {error}") from error
        with httpx.Client(verify=roots, timeout=_TIMEOUT) as client:
            token = settings.tushare_token.get_secret_value()
            yield cls(client, settings.tushare_url, token, calls_per_minute=settings.tushare_calls_per_minute)

    def trading_days(self, first: dt.date | None, last: dt.date) -> list[dt.date]:
        """Return the days on which Shanghai trades, and with it Shenzhen and Beijing."""
        first = first or last - _HISTORY
        rows = self._ask(
            "trade_cal", ("cal_date",), exchange="SSE", start_date=_day(first), end_date=_day(last), is_open="1"
        )
        return sorted(_date(row[0]) for row in rows)

    def shares(self) -> Iterator[Share]:
        """Yield the shares that are listed now; none, with a warning, if the account may not ask."""
        try:
            rows = list(self._ask("stock_basic", ("ts_code", "name", "list_date"), list_status="L"))
        except NotPermitted as error:
            logger.warning("shares keep their symbol for a name", reason=str(error))
            return
        for symbol, name, listed in rows:
            if SYMBOL.fullmatch(str(symbol)) and name:
                yield Share(symbol, str(name), _date(listed) if listed else None)

    def batches(self, days: Sequence[dt.date]) -> Iterator[Batch]:
        """Yield one day after the other. Raises `ProviderError`, too, for a day that has no bars yet."""
        factors_permitted = True
        for day in days:
            factors: Mapping[str, Any] = {}
            if factors_permitted:
                try:
                    rows = self._ask("adj_factor", ("ts_code", "adj_factor"), trade_date=_day(day))
                    factors = {row[0]: row[1] for row in rows}
                except NotPermitted as error:
                    logger.warning("bars come without adjustment factors", reason=str(error))
                    factors_permitted = False
            fields = ("ts_code", "trade_date", "open", "high", "low", "close", "vol", "amount")
            bars = {row[0]: row for row in self._ask("daily", fields, trade_date=_day(day))}
            if not bars:
                raise ProviderError(f"tushare has no bars of {day} yet")
            lines = [line for row in bars.values() if (line := _line(row, factors.get(row[0]), day))]
            if len(lines) < len(bars):
                logger.warning(
                    "bars that contradict themselves were left out", day=str(day), rows=len(bars) - len(lines)
                )
            yield Batch((day,), (Day(lines),))

    def _ask(self, api_name: str, fields: Sequence[str], **params: str) -> Iterator[Sequence[Any]]:
        """Yield the rows of a table, page by page, their values in the order of `fields`."""
        seen = 0
        while True:
            page = params | ({"offset": str(seen)} if seen else {})
            table = self._call({"api_name": api_name, "token": self._token, "params": page, "fields": ",".join(fields)})
            try:
                places = [table["fields"].index(field) for field in fields]
                rows = [[row[place] for place in places] for row in table["items"]]
            except (KeyError, ValueError, IndexError, TypeError) as error:
                raise ProviderError(f"tushare answers {api_name} with no table of {', '.join(fields)}") from error
            yield from rows
            seen += len(rows)
            if not (table.get("has_more") and rows):
                return

    def _call(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call until it works or cannot work. Raises `ProviderError`."""
        for attempt in stamina.retry_context(
            on=_wait, attempts=_ATTEMPTS, timeout=None, wait_initial=1.0, wait_max=30.0, wait_jitter=1.0
        ):
            with attempt:
                self._take_turn()
                return self._post(body)
        raise AssertionError("not reached")

    def _take_turn(self) -> None:
        now = time.monotonic()
        if (pause := self._next - now) > 0:
            time.sleep(pause)
        self._next = max(self._next, now) + self._interval

    def _post(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            answer = self._client.post(self._url, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"tushare cannot be reached: {error}") from error
        if answer.status_code in (429, 500, 502, 503, 504):
            after = answer.headers.get("retry-after", "")
            raise Unavailable(f"tushare answers {answer.status_code}", float(after) if after.isdecimal() else None)
        if answer.status_code != httpx.codes.OK:
            raise ProviderError(f"tushare answers {answer.status_code}")
        try:
            said = json.loads(answer.content, parse_float=Decimal)
            code, message, data = said["code"], str(said.get("msg") or ""), said.get("data")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable("tushare answers something else than its JSON") from error
        if code == 0 and isinstance(data, dict):
            return data
        message = f"tushare refuses {body['api_name']}: {message} (code {code})"
        if _TOO_OFTEN.search(message):
            raise Unavailable(message, self._minute)
        if _TOO_MUCH_TODAY.search(message):
            raise ProviderError(message)
        if _NOT_ALLOWED.search(message):
            raise NotPermitted(message)
        if _FOR_NOW.search(message):
            raise Unavailable(message)
        raise ProviderError(message)


def _wait(error: Exception) -> bool | float:
    """Return whether to try again after an error, or in how many seconds."""
    if isinstance(error, Unavailable):
        return True if error.after is None else error.after
    return False


def _tell(details: stamina.instrumentation.RetryDetails) -> None:
    logger.warning("tushare is asked again", reason=str(details.caused_by), seconds=round(details.wait_for, 1))


def _line(row: Sequence[Any], factor: Any, day: dt.date) -> str | None:
    """Return a bar as a line for COPY; None for one that contradicts itself, which nobody here can mend."""
    symbol, date, *values = row
    try:
        opened, high, low, close, lots, thousands = (Decimal(str(value)) for value in values)
        times = None if factor is None else Decimal(str(factor))
        sound = (
            _LEAST_PRICE <= low <= min(opened, close) <= max(opened, close) <= high < _TOO_MUCH
            and 0 <= min(lots, thousands) <= max(lots, thousands) < _TOO_MUCH**2
            and (times is None or _LEAST_FACTOR <= times < _TOO_MUCH)
        )
    except ArithmeticError:  # of what is no number
        return None
    if not (sound and SYMBOL.fullmatch(str(symbol)) and str(date) == _day(day)):
        return None
    volume, turnover = round(lots * _SHARES_A_LOT), thousands * _YUAN_A_THOUSAND
    numbers = (opened, high, low, close, volume, turnover, "" if times is None else times)
    return f"{symbol},{day},{','.join(map(str, numbers))}"


def _day(day: dt.date) -> str:
    return f"{day:%Y%m%d}"


def _date(text: Any) -> dt.date:
    try:
        return dt.date.fromisoformat(str(text))
    except ValueError as error:
        raise ProviderError(f"tushare answers with no day: {str(text)[:20]!r}") from error
