"""What the service answers: an endpoint for each operation, and the table of them all."""

import datetime as dt
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import psycopg
from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy import Row
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stockhelper_app import __version__, openapi, queries, requests, schemas
from stockhelper_app.bars import COLUMNS
from stockhelper_app.db import QUERY_TIMEOUT, Unavailable, one_line
from stockhelper_app.scheduler import Busy, Syncs

if TYPE_CHECKING:
    from stockhelper_app.db import Database

PREFIX: Final = "/api/v1"
# An answer about this very moment; no cache may keep it.
_FRESH = {"Cache-Control": "no-store"}
# A cache may keep it, and asks each time whether it is still so.
_ASK_AGAIN = {"Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
_JSON, _CSV = "application/json", "text/csv"
#: How much of a long answer is sent at a time, in bars.
_CHUNK: Final = 500
_BAR: Final = (
    '{"trade_date":"%s","open":%s,"high":%s,"low":%s,"close":%s,"volume":%s,"turnover":%s,"adjustment_factor":%s}'
)
#: Before every symbol; after every number of a run.
_FIRST_POSITION: Final = ""
_BEYOND: Final = 2**63 - 1


class Json(Response):
    """An answer in JSON, written by pydantic's own encoder: it knows days and moments, and is fast."""

    media_type = _JSON

    def render(self, content: Any) -> bytes:
        """Return the content as JSON."""
        return to_json(content)


async def index(request: Request) -> Response:
    """Tell the service's name and version."""
    return Json({"name": "stockhelper", "version": __version__})


async def health(request: Request) -> Response:
    """Tell within about two seconds whether the database answers: 200 if so, else 503."""
    database: Database = request.app.state.database
    if await database.answers():
        return Json({"status": "ok", "database": "connected"}, headers=_FRESH)
    return Json({"status": "error", "database": "disconnected"}, status_code=503, headers=_FRESH)


async def live(request: Request) -> Response:
    """Tell that this process answers; the database is not asked."""
    return Json({"status": "ok"}, headers=_FRESH)


async def document(request: Request) -> Response:
    """Describe all of this in OpenAPI's terms."""
    return Json(openapi.document(operations))


async def stocks(request: Request) -> Response:
    """List the shares, by symbol."""
    wanted = requests.query(request, schemas.StocksQuery)
    given = {"after": wanted.cursor or _FIRST_POSITION, "limit": wanted.limit + 1}
    if wanted.q is None:
        return _page(await _fetch(request, queries.ALL_STOCKS, given), wanted.limit)
    return _page(await _fetch(request, queries.MATCHING_STOCKS, {**given, "q": wanted.q}), wanted.limit)


async def stock(request: Request) -> Response:
    """Show one share."""
    symbol = requests.path(request, schemas.OneStock).symbol
    for row in await _fetch(request, queries.ONE_STOCK, {"symbol": symbol}):
        return Json(row._asdict())
    raise _unknown(symbol)


async def bars(request: Request) -> Response:
    """Give a share's daily bars, the oldest first, as JSON or CSV."""
    symbol = requests.path(request, schemas.OneStock).symbol
    wanted = requests.query(request, schemas.BarsQuery)
    kind = requests.wanted(request, (_JSON, _CSV))
    days = (wanted.first or dt.date.min, wanted.last or dt.date.max)
    rows = await _fetch(request, *queries.bars(symbol, *days, wanted.adjust))
    if not rows:
        raise _unknown(symbol)
    if rows[0][0] is None:
        rows = ()
    # All of them are here, and their connection is given back, before the first byte leaves: a caller who reads slowly
    # holds up nobody. A share has at most some ten thousand; their text is made as it is sent.
    chunks = _csv(symbol, rows) if kind == _CSV else _json(symbol, wanted.adjust, rows)
    # Over what the text is made of, which is quicker than over the text.
    tag = hashlib.blake2b(repr((symbol, wanted.adjust, kind)).encode(), digest_size=16)
    for row in rows:
        tag.update(",".join(row).encode())
    etag = f'"{tag.hexdigest()}"'
    headers = {"ETag": etag, **_ASK_AGAIN}
    if requests.known(request, etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if len(rows) <= _CHUNK:
        # Two years, and no need to make steps of it.
        return Response("".join(chunks), media_type=kind, headers=headers)
    return StreamingResponse(_steps(chunks), media_type=kind, headers=headers)


async def watchlist(request: Request) -> Response:
    """List the shares on the watchlist, each with its last close and the change."""
    wanted = requests.query(request, schemas.WatchlistQuery)
    given = {"after": wanted.cursor or _FIRST_POSITION, "limit": wanted.limit + 1}
    return _page(await _fetch(request, queries.WATCHLIST, given), wanted.limit)


async def watch(request: Request) -> Response:
    """Put a share on the watchlist; 201 when it is new there, 200 when it was there already."""
    symbol = requests.path(request, schemas.OneStock).symbol
    for row in await _fetch(request, queries.WATCH, {"symbol": symbol}):
        status = HTTPStatus.CREATED if row.created else HTTPStatus.OK
        return Json({"symbol": row.symbol, "added_at": row.added_at}, status_code=status)
    raise _unknown(symbol)


async def unwatch(request: Request) -> Response:
    """Take a share from the watchlist, if it is there."""
    await _fetch(request, queries.UNWATCH, {"symbol": requests.path(request, schemas.OneStock).symbol})
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def sync_runs(request: Request) -> Response:
    """List the runs that brought bars in, the newest first."""
    wanted = requests.query(request, schemas.RunsQuery)
    before = _BEYOND if wanted.cursor is None else wanted.cursor
    return _page(await _fetch(request, queries.RUNS, {"before": before, "limit": wanted.limit + 1}), wanted.limit)


async def sync(request: Request) -> Response:
    """Start a sync, of which one runs at a time; `sync/runs` tells how it ends."""
    days = await requests.body(request, schemas.SyncDays)
    arguments = [f"--from={days.first}"] if days.first else []
    arguments += [f"--to={days.last}"] if days.last else []
    syncs: Syncs = request.app.state.syncs
    try:
        await syncs.start(*arguments, within=QUERY_TIMEOUT)
    except Busy:
        raise HTTPException(HTTPStatus.CONFLICT, "Another sync is at work.") from None
    except (psycopg.Error, TimeoutError) as error:
        raise Unavailable(one_line(error)) from error
    return Json({"status": "started"}, HTTPStatus.ACCEPTED, headers={"Location": f"{PREFIX}/sync/runs"})


@dataclass(frozen=True)
class Operation:
    """One method of one path: who answers it, what it takes, and which answers there are besides errors.

    `headers` are those of an answer, by its status, and what they hold. `links` are operations that one may go on with:
    the parameter of theirs, and where its value is in the answer.
    """

    method: str
    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    answers: Mapping[int, type[BaseModel] | None]
    parameters: Sequence[tuple[str, type[schemas.Input]]] = ()
    body: type[schemas.Input] | None = None
    errors: Sequence[int] = ()
    headers: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    links: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    open: bool = False
    csv: bool = False

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET"

    async def __call__(self, request: Request) -> Response:
        """Answer a request of somebody who may ask."""
        if not self.open:
            request.app.state.access.check(request, writes=self.writes)
        return await self.endpoint(request)


_PATH = ("path", schemas.OneStock)
_FIRST, _THIS, _NEXT = ("symbol", "/items/0/symbol"), ("symbol", "/symbol"), ("cursor", "/next")
operations: Final = (
    Operation("GET", PREFIX, index, {200: schemas.About}),
    Operation("GET", f"{PREFIX}/health", health, {200: schemas.Health, 503: schemas.Health}, open=True),
    Operation("GET", f"{PREFIX}/health/live", live, {200: schemas.Live}, open=True),
    Operation("GET", f"{PREFIX}/openapi.json", document, {200: None}),
    Operation(
        "GET", f"{PREFIX}/stocks", stocks, {200: schemas.Page[schemas.StockOut]}, [("query", schemas.StocksQuery)],
        errors=[422, 503], links={"stock": _FIRST, "bars": _FIRST, "watch": _FIRST, "stocks": _NEXT},
    ),
    Operation(
        "GET", f"{PREFIX}/stocks/{{symbol}}", stock, {200: schemas.StockOut}, [_PATH], errors=[404, 422, 503],
        links={"bars": _THIS, "watch": _THIS},
    ),
    Operation(
        "GET", f"{PREFIX}/stocks/{{symbol}}/bars", bars, {200: schemas.Bars, 304: None},
        [_PATH, ("query", schemas.BarsQuery)], errors=[404, 406, 422, 503], csv=True,
        headers={200: {"ETag": "string"}, 304: {"ETag": "string"}},
    ),
    Operation(
        "GET", f"{PREFIX}/watchlist", watchlist, {200: schemas.Page[schemas.Watched]},
        [("query", schemas.WatchlistQuery)], errors=[422, 503],
        links={"bars": _FIRST, "unwatch": _FIRST, "watchlist": _NEXT},
    ),
    Operation(
        "PUT", f"{PREFIX}/watchlist/{{symbol}}", watch, {200: schemas.Added, 201: schemas.Added}, [_PATH],
        errors=[404, 422, 503], links={"bars": _THIS, "unwatch": _THIS},
    ),
    Operation("DELETE", f"{PREFIX}/watchlist/{{symbol}}", unwatch, {204: None}, [_PATH], errors=[422, 503]),
    Operation(
        "GET", f"{PREFIX}/sync/runs", sync_runs, {200: schemas.Page[schemas.Run]}, [("query", schemas.RunsQuery)],
        errors=[422, 503], links={"sync_runs": _NEXT},
    ),
    Operation(
        "POST", f"{PREFIX}/sync", sync, {202: schemas.Started}, body=schemas.SyncDays,
        errors=[409, 415, 422, 503], headers={202: {"Location": "string"}},
    ),
)  # fmt: skip


def _routes() -> Iterator[Route]:
    """Yield a route for each path: a second one with the same path would answer 405 for the first one's methods."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    for path, methods in by_path.items():
        yield Route(path, _dispatch(methods), methods=list(methods))


def _dispatch(methods: Mapping[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


routes = tuple(_routes())


async def _fetch(request: Request, statement: Any, parameters: Mapping[str, object]) -> Sequence[Row[*tuple[Any, ...]]]:
    database: Database = request.app.state.database
    return await database.fetch(statement, parameters)


def _page(rows: Sequence[Row[*tuple[Any, ...]]], limit: int) -> Response:
    """Return a page of `limit` rows, whose key is their first column; one row more says that there is another."""
    following = schemas.encode_cursor(rows[limit - 1][0]) if len(rows) > limit else None
    return Json({"items": [row._asdict() for row in rows[:limit]], "next": following})


def _unknown(symbol: str) -> HTTPException:
    return HTTPException(HTTPStatus.NOT_FOUND, f"There is no share {symbol}.")


def _json(symbol: str, adjust: str, rows: Sequence[Row[*tuple[Any, ...]]]) -> Iterator[str]:
    yield f'{{"symbol":"{symbol}","adjust":"{adjust}","bars":['
    for start in range(0, len(rows), _CHUNK):
        # The database wrote days and numbers, and both are JSON as they are.
        yield ("," if start else "") + ",".join([_BAR % tuple(row) for row in rows[start : start + _CHUNK]])
    yield "]}"


def _csv(symbol: str, rows: Sequence[Row[*tuple[Any, ...]]]) -> Iterator[str]:
    """Yield what `stockhelper data import` takes."""
    yield ",".join(COLUMNS) + "\n"
    for start in range(0, len(rows), _CHUNK):
        yield "".join([f"{symbol},{','.join(row)}\n" for row in rows[start : start + _CHUNK]])


async def _steps(chunks: Iterator[str]) -> AsyncIterator[str]:
    # An asynchronous one: Starlette would take each step of a plain one in a thread.
    for chunk in chunks:
        yield chunk
