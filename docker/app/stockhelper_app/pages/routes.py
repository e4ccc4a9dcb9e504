"""The pages and what their forms do: an endpoint for each, errors as pages, and the table of routes."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field
from sqlalchemy import Row
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stockhelper_app import errors, queries, requests
from stockhelper_app.pages import chart, numbers
from stockhelper_app.pages.chart import Bar
from stockhelper_app.pages.logins import Logins, Refusal, admit, check_origin, forget, remember
from stockhelper_app.pages.rendering import page, static_file
from stockhelper_app.pages.texts import EN
from stockhelper_app.schemas import NO_CONTROLS, Input, OneStock, SymbolCursor, encode_cursor

if TYPE_CHECKING:
    from stockhelper_app.db import Database

#: Shares on one page of the watchlist; shares that a search shows, and that are shown while nothing is watched.
_LISTED: Final = 100
_FOUND: Final = 20
_SOME: Final = 6
#: Bars in the table below a chart.
_TOLD: Final = 20
#: How far a chart goes back from the share's last bar, in days.
_RANGES: Final[Mapping[str, int | None]] = {"1m": 31, "3m": 92, "6m": 183, "1y": 366, "all": None}
_ADJUSTMENTS: Final = ("forward", "backward", "none")
#: Pages that a form may lead back to.
_BACK: Final = r"^/(?:stocks/[0-9]{6}\.(?:SH|SZ|BJ))?$"


class _Shown(Input):
    """What every page may be asked for; `rendering.language` looks at it."""

    lang: Literal["en", "zh"] | None = None


class _HomeQuery(_Shown):
    q: Annotated[str, Field(max_length=50, pattern=NO_CONTROLS)] = ""
    cursor: SymbolCursor | None = None


class _StockQuery(_Shown):
    range: Literal["1m", "3m", "6m", "1y", "all"] = "3m"
    adjust: Literal["forward", "backward", "none"] = "forward"


class _LoginQuery(_Shown):
    back: Annotated[str, Field(pattern=_BACK)] = "/"


class _Return(Input):
    back: Annotated[str, Field(pattern=_BACK)] = "/"


class _LoginForm(_Return):
    token: Annotated[str, Field(max_length=1000)]


async def home(request: Request) -> Response:
    """Show the watchlist, the state of the data, and the shares that a search finds."""
    admit(request)
    wanted = requests.query(request, _HomeQuery)
    q = wanted.q.strip()
    listed = await _fetch(request, queries.WATCHED, {"after": wanted.cursor or "", "limit": _LISTED + 1})
    (state,) = await _fetch(request, queries.DATA_STATE, {})
    found: Sequence[Row[*tuple[Any, ...]]] = ()
    if q:
        found = await _fetch(request, queries.FOUND, {"q": q, "after": "", "limit": _FOUND})
    elif not listed:
        # Something to begin with.
        found = await _fetch(request, queries.SOME, {"after": "", "limit": _SOME})
    shown = {
        "shares": [_watched(row) for row in listed[:_LISTED]],
        "following": encode_cursor(listed[_LISTED - 1].symbol) if len(listed) > _LISTED else None,
        "state": state,
        "q": q,
        "found": found,
    }
    return page(request, "home.html", shown)


async def stock(request: Request) -> Response:
    """Show a share's candles, and its last bars as a table."""
    admit(request)
    symbol = _symbol(request)
    wanted = requests.query(request, _StockQuery)
    rows = await _fetch(request, queries.SHOWN, {"symbol": symbol})
    if not rows:
        raise _unknown(symbol)
    share = rows[0]
    bars: list[Bar] = []
    changes: list[float | None] = []
    if share.trade_date is not None:
        bars, changes = await _bars(request, symbol, share.trade_date, wanted)
    shown = {
        "share": share,
        "decimals": numbers.decimals_of(share.close) if bars else 2,
        "ranges": list(_RANGES),
        "adjustments": _ADJUSTMENTS,
        "range": wanted.range,
        "adjust": wanted.adjust,
        "chart": chart.chart(bars) if bars else None,
        "told": list(zip(bars, changes, strict=True))[: -_TOLD - 1 : -1],
    }
    return page(request, "stock.html", shown)


async def watch(request: Request) -> Response:
    """Put a share on the watchlist, and go back to where that was asked for."""
    admit(request, writes=True)
    symbol = _symbol(request)
    form = await requests.form(request, _Return)
    if not await _fetch(request, queries.WATCH, {"symbol": symbol}):
        raise _unknown(symbol)
    return _see(form.back)


async def unwatch(request: Request) -> Response:
    """Take a share from the watchlist, and go back."""
    admit(request, writes=True)
    symbol = _symbol(request)
    form = await requests.form(request, _Return)
    await _fetch(request, queries.UNWATCH, {"symbol": symbol})
    return _see(form.back)


async def login(request: Request) -> Response:
    """Show the form to log in with; take the token that it sends, and give a cookie for it."""
    if request.method != "POST":
        return _login(request, requests.query(request, _LoginQuery).back)
    check_origin(request)
    form = await requests.form(request, _LoginForm)
    logins: Logins = request.app.state.logins
    if not logins.possible:
        raise Refusal(HTTPStatus.FORBIDDEN, "no_token")
    cookie = logins.begin(form.token)
    if cookie is None:
        return _login(request, form.back, status=HTTPStatus.UNAUTHORIZED, wrong="wrong_token")
    response = _see(form.back)
    remember(request, response, cookie)
    return response


async def logout(request: Request) -> Response:
    """Take the cookie away."""
    check_origin(request)
    response = _see("/")
    forget(response)
    return response


async def static(request: Request) -> Response:
    """Give a file that pages load."""
    response = static_file(request.path_params["name"])
    if response is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return response


routes: Final = (
    Route("/", home),
    Route("/stocks/{symbol}", stock),
    Route("/stocks/{symbol}/watch", watch, methods=["POST"]),
    Route("/stocks/{symbol}/unwatch", unwatch, methods=["POST"]),
    Route("/login", login, methods=["GET", "POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/static/{name}", static),
)


# --- errors


async def http_error(request: Request, error: Exception) -> Response:
    """Return the answer for an `HTTPException`: a page for who asks for one, else a problem document."""
    answer = await errors.http_problem(request, error)
    if isinstance(error, Refusal):
        return _as_page(request, answer, error.text, error.given)
    return _as_page(request, answer, "422" if isinstance(error, errors.Invalid) else str(answer.status_code))


async def unavailable(request: Request, error: Exception) -> Response:
    """Return the answer while the database is away."""
    return _as_page(request, await errors.unavailable_problem(request, error), "503")


def unexpected(request: Request) -> Response:
    """Return the answer to what failed with an error that nobody caught."""
    return _as_page(request, errors.problem(HTTPStatus.INTERNAL_SERVER_ERROR), "500")


def _as_page(request: Request, answer: Response, text: str, given: str | None = None) -> Response:
    """Return an error's page in place of its document, where one is asked for; the API has no pages."""
    if request.scope["path"].startswith("/api/") or not requests.likes_html(request):
        return answer
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        path = request.scope["path"]
        back = path if re.fullmatch(_BACK, path) else "/"
        return _login(request, back, status=HTTPStatus.UNAUTHORIZED, wrong=text, headers=headers)
    shown = {"text": text if text in EN else "other", "given": given}
    return page(request, "error.html", shown, status=answer.status_code, headers=headers)


# --- what endpoints share


async def _fetch(request: Request, statement: Any, parameters: Mapping[str, object]) -> Sequence[Row[*tuple[Any, ...]]]:
    database: Database = request.app.state.database
    return await database.fetch(statement, parameters)


async def _bars(
    request: Request, symbol: str, last: dt.date, wanted: _StockQuery
) -> tuple[list[Bar], list[float | None]]:
    """Return the bars of a chart, and the change of each to the one before in %, dividends and splits out."""
    back = _RANGES[wanted.range]
    first = dt.date.min if back is None else dt.date.fromordinal(max(last.toordinal() - back, 1))
    rows = await _fetch(request, *queries.bars(symbol, first, last, wanted.adjust))
    bars, values = [], []
    for date, *prices, volume, _, factor in rows:
        day = dt.date.fromisoformat(date)
        opened, high, low, closed = map(float, prices)
        bar = Bar(day, day, opened, high, low, closed, int(volume))
        bars.append(bar)
        values.append(bar.close * float(factor) if wanted.adjust == "none" else bar.close)
    # An adjusted price may be too small for its four decimals.
    changes = ((value / before - 1) * 100 if before else None for before, value in pairwise(values))
    return bars, [None, *changes][: len(bars)]


def _watched(row: Row[*tuple[Any, ...]]) -> Mapping[str, object]:
    """Return what the list shows of a share; `trend` is the line through its last closes, dividends and splits out."""
    shown = {**row._asdict(), "trend": None, "days": 0, "over_all": None, "decimals": 2}
    if row.close is not None:
        shown["decimals"] = numbers.decimals_of(row.close)
    if len(row.trend) > 1:
        oldest_first = row.trend[::-1]
        change = (oldest_first[-1] / oldest_first[0] - 1) * 100
        shown |= {"trend": chart.spark(oldest_first), "days": len(oldest_first), "over_all": change}
    return shown


def _symbol(request: Request) -> str:
    try:
        return requests.path(request, OneStock).symbol
    except errors.Invalid:
        raise HTTPException(HTTPStatus.NOT_FOUND) from None


def _unknown(symbol: str) -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "no_share", given=symbol)


def _see(path: str) -> Response:
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": path, "Cache-Control": "no-store"})


def _login(
    request: Request,
    back: str,
    *,
    status: int = HTTPStatus.OK,
    wrong: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return page(request, "login.html", {"back": back, "wrong": wrong}, status=status, headers=headers)
