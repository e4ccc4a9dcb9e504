"""The API on a real database: what each operation answers, and that the description tells all of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest
from sqlalchemy import event

from stockhelper_app import schemas
from stockhelper_app.app import create_app
from stockhelper_app.routes import routes
from tests.service.conftest import serving, settings_at, settings_for
from tests.service.steps import BEARER, TOKEN, V1
from tests.support.postgres import Postgres

pytestmark = pytest.mark.anyio


async def symbols(client: httpx.AsyncClient, **query: object) -> list[str]:
    answer = await client.get(f"{V1}/stocks", params={name: str(value) for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    page = schemas.Page[schemas.StockOut].model_validate_json(answer.content)
    return [item.symbol for item in page.items]


async def test_shares_are_found_by_symbol_and_name_and_by_no_wildcard(client: httpx.AsyncClient) -> None:
    assert await symbols(client) == ["000001.SZ", "600519.SH", "830001.BJ"]
    assert await symbols(client, q="6005") == ["600519.SH"]
    assert await symbols(client, q="600519.sh") == ["600519.SH"]
    assert await symbols(client, q="moutai") == ["600519.SH"]
    assert await symbols(client, q="平") == ["000001.SZ"]
    assert await symbols(client, q="0%_") == ["600519.SH"]
    assert await symbols(client, q="%") == ["600519.SH"]
    assert await symbols(client, q="' OR 1=1 --") == []


async def test_pages_follow_each_other_without_gap_or_overlap(client: httpx.AsyncClient) -> None:
    seen, query = [], {"limit": "1"}
    for _ in range(3):
        page = (await client.get(f"{V1}/stocks", params=query)).json()
        seen += [item["symbol"] for item in page["items"]]
        query["cursor"] = page["next"]
    assert seen == ["000001.SZ", "600519.SH", "830001.BJ"]
    assert page["next"] is None


async def test_one_share(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{V1}/stocks/600519.SH")
    assert answer.json() == {
        "symbol": "600519.SH",
        "name": "Moutai 100%_",
        "exchange": "SH",
        "listing_date": "2001-08-27",
    }
    for path in (f"{V1}/stocks/600000.SH", f"{V1}/stocks/600000.SH/bars"):
        assert (await client.get(path)).status_code == 404


async def bars(client: httpx.AsyncClient, symbol: str = "600519.SH", **query: str) -> schemas.Bars:
    answer = await client.get(f"{V1}/stocks/{symbol}/bars", params=query)
    assert answer.status_code == 200, answer.text
    json.loads(answer.content)
    return schemas.Bars.model_validate(json.loads(answer.content, parse_float=Decimal))


async def test_bars_are_exact(client: httpx.AsyncClient) -> None:
    found = (await bars(client)).bars
    assert [str(bar.trade_date) for bar in found] == ["2026-11-18", "2026-11-19", "2026-11-20"]
    assert (found[0].low, found[0].turnover) == (Decimal("11.11"), Decimal("1200.5"))
    assert (found[1].volume, found[1].turnover) == (9007199254740993, Decimal("123456789012345678.9"))
    days = (await bars(client, **{"from": "2026-11-19", "to": "2026-11-19"})).bars
    assert [bar.close for bar in days] == [10]
    assert (await bars(client, "830001.BJ")).bars == []
    assert (await bars(client, "830001.BJ", adjust="forward")).bars == []


async def test_adjusted_prices_are_comparable_over_a_dividend(client: httpx.AsyncClient) -> None:
    backward = (await bars(client, adjust="backward")).bars
    assert [bar.close for bar in backward] == [Decimal("12"), Decimal("12"), Decimal("12.6")]
    forward = (await bars(client, adjust="forward")).bars
    assert [bar.close for bar in forward] == [Decimal("10"), Decimal("10"), Decimal("10.5")]
    # 11.11 / 1.2 = 9.258333…, rounded once.
    assert forward[0].low == Decimal("9.2583")
    # A day's price does not depend on which days are asked for.
    (alone,) = (await bars(client, adjust="forward", to="2026-11-18")).bars
    assert alone == forward[0]
    assert [bar.volume for bar in forward] == [100, 9007199254740993, 0]


async def test_bars_as_csv_can_be_imported_again(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{V1}/stocks/600519.SH/bars", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert rows[1]["turnover"] == "123456789012345678.9"
    assert [row["symbol"] for row in rows] == ["600519.SH"] * 3


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("text/csv;q=0, */*", "application/json"),
        ("application/json;q=0, */*;q=0.1", "text/csv"),
        ("image/png", None),
        ("text/csv;q=nonsense", None),
    ],
)
async def test_the_form_is_the_one_that_is_liked_most(accept: str, kind: str | None, client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{V1}/stocks/600519.SH/bars", headers={"Accept": accept})
    assert answer.status_code == (200 if kind else 406)
    assert answer.headers["content-type"].partition(";")[0] == (kind or "application/problem+json")


async def test_what_has_not_changed_is_not_sent_again(client: httpx.AsyncClient, stocked: Postgres) -> None:
    path = f"{V1}/stocks/600519.SH/bars"
    first = await client.get(path)
    tag = first.headers["etag"]
    for given in (tag, f'"other", W/{tag}', "*"):
        again = await client.get(path, headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    for other in ({"params": {"adjust": "forward"}}, {"headers": {"Accept": "text/csv"}}):
        assert (await client.get(path, **other)).headers["etag"] != tag  # type: ignore[arg-type]
    stocked.query("UPDATE daily_bars SET volume = 101 WHERE trade_date = '2026-11-18'")
    changed = await client.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


async def test_a_long_history_comes_whole(client: httpx.AsyncClient, stocked: Postgres) -> None:
    stocked.query(
        "INSERT INTO daily_bars SELECT '830001.BJ', day::date, 1, 1, 1, 1, 1, 1, 1"
        " FROM generate_series('1991-01-01'::date, '2016-12-31', '1 day') AS day"
    )
    found = (await bars(client, "830001.BJ")).bars
    assert len(found) == 9497
    assert (str(found[0].trade_date), str(found[-1].trade_date)) == ("1991-01-01", "2016-12-31")


@pytest.mark.usefixtures("stocked")
async def test_the_watchlist_shows_the_last_close_and_the_change(client: httpx.AsyncClient) -> None:
    put = await client.put(f"{V1}/watchlist/600519.SH", headers=BEARER)
    assert put.status_code == 201
    again = await client.put(f"{V1}/watchlist/600519.SH", headers=BEARER)
    assert (again.status_code, again.json()) == (200, put.json())
    for symbol in ("000001.SZ", "830001.BJ"):
        assert (await client.put(f"{V1}/watchlist/{symbol}", headers=BEARER)).status_code == 201
    assert (await client.put(f"{V1}/watchlist/600000.SH", headers=BEARER)).status_code == 404

    answer = await client.get(f"{V1}/watchlist")
    page = schemas.Page[schemas.Watched].model_validate_json(answer.content)
    assert [(item.symbol, item.close, item.change_percent) for item in page.items] == [
        ("000001.SZ", 7.0, None),
        ("600519.SH", 10.5, 5.0),
        ("830001.BJ", None, None),
    ]
    assert all(item.added_at.utcoffset() is not None for item in page.items)
    for _ in range(2):
        assert (await client.delete(f"{V1}/watchlist/000001.SZ", headers=BEARER)).status_code == 204
    assert [item["symbol"] for item in (await client.get(f"{V1}/watchlist")).json()["items"]] == [
        "600519.SH",
        "830001.BJ",
    ]


async def test_the_change_takes_dividends_out(client: httpx.AsyncClient, stocked: Postgres) -> None:
    stocked.query("DELETE FROM daily_bars WHERE trade_date = '2026-11-20'")
    await client.put(f"{V1}/watchlist/600519.SH", headers=BEARER)
    (item,) = (await client.get(f"{V1}/watchlist")).json()["items"]
    assert (item["close"], item["change_percent"]) == (10.0, 0.0)


async def test_runs_come_newest_first(client: httpx.AsyncClient, stocked: Postgres) -> None:
    stocked.query(
        "INSERT INTO sync_runs (job, source, finished_at, outcome)"
        " SELECT 'sync', 'csv', now(), 'done' FROM generate_series(1, 3)"
    )
    first = schemas.Page[schemas.Run].model_validate_json(
        (await client.get(f"{V1}/sync/runs", params={"limit": 2})).content
    )
    assert [run.id for run in first.items] == [3, 2]
    rest = (await client.get(f"{V1}/sync/runs", params={"cursor": first.next})).json()
    assert [run["id"] for run in rest["items"]] == [1]


async def test_each_request_is_one_statement(stocked: Postgres) -> None:
    app = create_app(settings_for(stocked, api_token=TOKEN))
    async with serving(app) as client:
        await client.get(f"{V1}/health")
        statements: list[str] = []
        engine = app.state.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        for method, path in (
            ("GET", "stocks"),
            ("GET", "stocks?q=1"),
            ("GET", "stocks/600519.SH"),
            ("GET", "stocks/600519.SH/bars?adjust=forward"),
            ("PUT", "watchlist/600519.SH"),
            ("GET", "watchlist"),
            ("DELETE", "watchlist/600519.SH"),
            ("GET", "sync/runs"),
        ):
            statements.clear()
            answer = await client.request(method, f"{V1}/{path}", headers=BEARER)
            assert answer.status_code < 300, answer.text
            assert len(statements) == 1, path


async def test_the_description_tells_of_every_route(dead_port: int) -> None:
    async with serving(settings_at(dead_port)) as client:
        document = (await client.get(f"{V1}/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    served = {(route.path, method) for route in routes for method in route.methods or () if method != "HEAD"}
    told = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert told == served

    def references(node: object) -> Iterator[str]:
        match node:
            case {"$ref": str(target)}:
                yield target
            case dict():
                for value in node.values():
                    yield from references(value)
            case list():
                for value in node:
                    yield from references(value)

    components = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= components
    bars_of = document["paths"][f"{V1}/stocks/{{symbol}}/bars"]["get"]
    assert {(p["name"], p["in"], p["required"]) for p in bars_of["parameters"]} == {
        ("symbol", "path", True),
        ("from", "query", False),
        ("to", "query", False),
        ("adjust", "query", False),
    }
    assert set(bars_of["responses"]["200"]["content"]) == {"application/json", "text/csv"}
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["responses"]
