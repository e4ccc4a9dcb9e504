"""The pages in this process: what they show, to whom, in which language, and what no form and no name can do."""

from __future__ import annotations

import html
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import event
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stockhelper_app.app import create_app
from stockhelper_app.pages import logins, numbers, routes, texts
from tests.service.conftest import Lines, serving, settings_at, settings_for
from tests.service.steps import BEARER, TOKEN, V1
from tests.support.postgres import Postgres

pytestmark = pytest.mark.anyio

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
OURS = {"Sec-Fetch-Site": "same-origin"}
PAGES = ["/", "/stocks/600519.SH"]
WRITES = ["/stocks/600519.SH/watch", "/stocks/600519.SH/unwatch"]


@pytest.fixture
async def visitor(shares: Postgres) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with a browser, on loopback, who has not logged in."""
    async with serving(settings_for(shares, api_token=TOKEN)) as made:
        made.headers.update(HTML)
        yield made


@pytest.fixture
async def caller(dead_port: int) -> AsyncIterator[httpx.AsyncClient]:
    """The same, where the database is away: what does not ask it works, and needs none."""
    async with serving(settings_at(dead_port, api_token=TOKEN)) as made:
        made.headers.update(HTML)
        yield made


async def log_in(client: httpx.AsyncClient, token: str = TOKEN, back: str = "/") -> httpx.Response:
    return await client.post("/login", data={"token": token, "back": back}, headers=OURS)


async def post(client: httpx.AsyncClient, path: str, **form: str) -> httpx.Response:
    return await client.post(path, data=form, headers=OURS)


def words(answer: httpx.Response) -> str:
    """What a page says, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


# --- what they show


async def test_the_list_shows_each_share_with_its_close_and_the_change(
    visitor: httpx.AsyncClient, stocked: Postgres
) -> None:
    stocked.query("INSERT INTO watchlist (symbol) VALUES ('600519.SH'), ('000001.SZ'), ('830001.BJ')")
    shown = await visitor.get("/")
    assert shown.status_code == 200
    said = words(shown)
    assert "Moutai 100%_ 600519.SH Close 10.50 Change ▲ +0.50 +5.00%" in said
    assert "平安 000001.SZ Close 7.00 –" in said
    assert "Bare 830001.BJ no prices yet" in said
    assert "Last trading day 2026-11-20" in said
    assert shown.text.count('<svg class="trend"') == 1
    assert "Closes of 3 trading days, +5.00% in all" in shown.text


async def test_a_fall_has_a_sign_and_an_arrow(visitor: httpx.AsyncClient, stocked: Postgres) -> None:
    stocked.query("UPDATE daily_bars SET low = 9, close = 9.5 WHERE trade_date = '2026-11-20' AND symbol = '600519.SH'")
    stocked.query("INSERT INTO watchlist (symbol) VALUES ('600519.SH')")
    for path in PAGES:
        said = words(await visitor.get(path))
        assert "▼ \N{MINUS SIGN}0.50 \N{MINUS SIGN}5.00%" in said, path


async def test_the_last_sync_is_told_with_its_outcome(visitor: httpx.AsyncClient, stocked: Postgres) -> None:
    assert "Last sync none yet" in words(await visitor.get("/"))
    stocked.query(
        "INSERT INTO sync_runs (job, source, started_at, finished_at, outcome, rows, error) VALUES"
        " ('sync', 'csv', '2026-11-20T08:31:00Z', now(), 'done', 12345, NULL),"
        " ('import', 'a.csv', '2026-11-22T08:31:00Z', now(), 'done', 7, NULL)"
    )
    assert "Last sync 2026-11-20 16:31 Shanghai time · done · 12,345 rows" in words(await visitor.get("/"))
    stocked.query(
        "INSERT INTO sync_runs (job, source, started_at, finished_at, outcome, error) VALUES"
        " ('sync', 'tushare', '2026-11-23T08:31:00Z', now(), 'failed', 'it is <b>away</b>')"
    )
    assert "2026-11-23 16:31 Shanghai time · failed · 0 rows it is <b>away</b>" in words(await visitor.get("/"))


async def test_an_empty_watchlist_offers_some_shares(visitor: httpx.AsyncClient) -> None:
    said = words(await visitor.get("/"))
    assert "No share is watched yet." in said
    assert "Some of the shares 平安 000001.SZ Moutai 100%_ 600519.SH Bare 830001.BJ" in said


async def test_a_search_finds_by_symbol_and_name(visitor: httpx.AsyncClient, stocked: Postgres) -> None:
    stocked.query("INSERT INTO watchlist (symbol) VALUES ('600519.SH')")
    assert "Shares for “moutai” Moutai 100%_ 600519.SH on the watchlist" in words(await visitor.get("/?q=+moutai+"))
    assert "No share matches “<i>”." in words(await visitor.get("/?q=<i>"))
    assert "Shares for" not in words(await visitor.get("/?q="))


async def test_a_long_watchlist_comes_in_pages(visitor: httpx.AsyncClient, stocked: Postgres) -> None:
    stocked.query(
        "INSERT INTO stocks (symbol, name, exchange)"
        " SELECT lpad(n::text, 6, '0') || '.SZ', 'share ' || n, 'SZ' FROM generate_series(300001, 300150) n"
    )
    stocked.query("INSERT INTO watchlist (symbol) SELECT symbol FROM stocks WHERE name LIKE 'share %'")
    first = await visitor.get("/")
    (link,) = re.findall(r'href="(/\?cursor=[^"]+)"', first.text)
    second = await visitor.get(link)
    listed = [re.findall(r'href="/stocks/(3\d{5}\.SZ)"', page.text) for page in (first, second)]
    assert [len(symbols) for symbols in listed] == [100, 50]
    assert len({*listed[0], *listed[1]}) == 150


async def test_a_list_of_any_length_takes_as_many_statements(stocked: Postgres) -> None:
    app = create_app(settings_for(stocked, api_token=TOKEN))
    stocked.query("INSERT INTO watchlist (symbol) SELECT symbol FROM stocks")
    async with serving(app) as client:
        await client.get(f"{V1}/health")
        statements: list[str] = []
        engine = app.state.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        for path, most in (("/", 2), ("/?q=6", 3), ("/stocks/600519.SH?range=all", 2), ("/login", 0)):
            statements.clear()
            assert (await client.get(path)).status_code == 200
            assert len(statements) == most, path


@pytest.mark.parametrize(("adjust", "first_close"), [("none", "12.00"), ("forward", "10.00"), ("backward", "12.00")])
async def test_a_share_has_a_chart_and_a_table(adjust: str, first_close: str, visitor: httpx.AsyncClient) -> None:
    shown = await visitor.get(f"/stocks/600519.SH?range=all&adjust={adjust}")
    said = words(shown)
    assert "Moutai 100%_ 600519.SH Shanghai · Listed 2001-08-27 Close 10.50" in said
    assert "Daily candles 2026-11-18 to 2026-11-20, lowest " in said
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', shown.text, re.S)
    assert [day for day, _ in rows] == ["2026-11-20", "2026-11-19", "2026-11-18"]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for _, row in rows]
    assert cells[2][0] == first_close
    # Dividends are out of the change, however prices are shown.
    assert [row[1] for row in cells] == ["+5.00%", "0.00%", "–"]
    assert re.findall(rf'href="\?range=all&amp;adjust={adjust}" aria-current="true"', shown.text) != []


async def test_a_share_without_bars_says_so(visitor: httpx.AsyncClient) -> None:
    shown = await visitor.get("/stocks/830001.BJ")
    assert shown.status_code == 200
    assert "no prices yet" in words(shown)
    assert "<table" not in shown.text


async def test_one_bar_and_a_price_that_never_moves_are_charts_too(visitor: httpx.AsyncClient) -> None:
    assert "Daily candles 2026-11-20 to 2026-11-20, lowest 7.00, highest 7.00" in words(
        await visitor.get("/stocks/000001.SZ")
    )


async def test_a_price_that_adjusting_makes_nothing_of_is_no_error(
    visitor: httpx.AsyncClient, stocked: Postgres
) -> None:
    stocked.query("UPDATE daily_bars SET adjustment_factor = 0.000001 WHERE trade_date = '2026-11-18'")
    shown = await visitor.get("/stocks/600519.SH?adjust=forward")
    assert shown.status_code == 200
    assert "lowest 0.00, highest 11.00" in words(shown)


@pytest.mark.parametrize(
    ("range_", "step", "most"),
    [("1m", "Daily", 32), ("3m", "Daily", 93), ("1y", "Weekly", 54), ("all", "Yearly", 41)],
)
async def test_forty_years_are_drawn_coarser(
    range_: str, step: str, most: int, visitor: httpx.AsyncClient, stocked: Postgres
) -> None:
    stocked.query(
        "INSERT INTO daily_bars SELECT '830001.BJ', day::date, 10, 12, 8, 11, 1000, 1, 1"
        " FROM generate_series('1986-11-20'::date, '2026-11-20', '1 day') AS day"
    )
    shown = await visitor.get(f"/stocks/830001.BJ?range={range_}&adjust=none")
    assert f"{step} candles" in words(shown)
    assert 1 < shown.text.count("<rect ") <= most
    assert len(shown.content) < 100_000
    assert shown.text.count('<th scope="row">') == 20


@pytest.mark.parametrize(
    ("value", "english", "chinese"),
    [
        (0, "0", "0"),
        (999, "999", "999"),
        (12_345, "12.3K", "1.23万"),
        (2_413_300, "2.41M", "241万"),
        (10**9, "1.00B", "10.0亿"),
        (2**63 - 1, "9,223,372,037B", "92,233,720,369亿"),
    ],
)
async def test_large_numbers_are_in_the_units_of_the_language(value: int, english: str, chinese: str) -> None:
    assert (numbers.amount(value, "en"), numbers.amount(value, "zh")) == (english, chinese)


async def test_requests_are_counted_by_their_route(visitor: httpx.AsyncClient) -> None:
    def counted() -> float:
        labels = {"method": "GET", "route": "/stocks/{symbol}", "status": "200"}
        return REGISTRY.get_sample_value("stockhelper_http_requests_total", labels) or 0

    before = counted()
    for symbol in ("600519.SH", "000001.SZ"):
        await visitor.get(f"/stocks/{symbol}")
    assert counted() == before + 2


# --- names and numbers are text


async def test_a_name_is_text_wherever_it_stands(visitor: httpx.AsyncClient, stocked: Postgres) -> None:
    name = "<script>alert(1)</script>\"'&%s{{ 7*7 }}"
    stocked.query("UPDATE stocks SET name = %s", name)
    await log_in(visitor)
    stocked.query("INSERT INTO watchlist (symbol) VALUES ('600519.SH')")
    for path in (*PAGES, "/?q=script", "/stocks/830001.BJ"):
        shown = await visitor.get(path)
        assert shown.status_code == 200
        assert "<script" not in shown.text.lower()
        assert name in html.unescape(shown.text)
    for path in ("/?q=%22%3E%3Cscript%3E", "/stocks/<script>", "/<script>"):
        assert "<script" not in (await visitor.get(path)).text.lower()


async def test_no_template_has_a_style_or_a_script_of_its_own() -> None:
    for file in (Path(routes.__file__).parent / "templates").iterdir():
        assert re.search(r"<script|<style|\sstyle=|\son[a-z]+=|javascript:|https?://", file.read_text()) is None, file


def test_both_languages_have_the_same_texts() -> None:
    assert texts.EN.keys() == texts.ZH.keys()
    for key, text in texts.EN.items():
        assert text.count("%s") == texts.ZH[key].count("%s"), key


# --- languages


@pytest.mark.parametrize(
    ("accept", "lang"),
    [
        (None, "en"),
        ("zh-TW", "zh-CN"),
        ("fr, zh;q=0.5, en;q=0.4", "zh-CN"),
        ("en-GB, zh;q=0.9", "en"),
        ("fr", "en"),
        ("zh;q=nonsense, en;q=0.1", "en"),
        ("*", "en"),
        (";;q=,,zh", "zh-CN"),
    ],
)
async def test_the_language_is_the_browsers(accept: str | None, lang: str, caller: httpx.AsyncClient) -> None:
    shown = await caller.get("/login", headers={"Accept-Language": accept} if accept else {})
    assert f'<html lang="{lang}">' in shown.text
    assert ("登录" if lang == "zh-CN" else "Log in") in shown.text
    assert {name.strip() for name in shown.headers["vary"].split(",")} >= {"Accept-Language", "Cookie"}


async def test_a_language_that_was_chosen_stays(caller: httpx.AsyncClient) -> None:
    assert 'href="?back=%2F&amp;lang=zh"' in (await caller.get("/login?back=/")).text
    assert "登录" in (await caller.get("/login?lang=zh")).text
    for path in ("/login", "/missing"):
        assert '<html lang="zh-CN">' in (await caller.get(path)).text
    assert '<html lang="en">' in (await caller.get("/login?lang=en", headers=CHINESE)).text
    assert '<html lang="en">' in (await caller.get("/missing", headers=CHINESE)).text


# --- headers


async def test_every_page_is_closed_to_everything_else(visitor: httpx.AsyncClient) -> None:
    for path, status in (("/", 200), ("/stocks/600519.SH", 200), ("/login", 200), ("/missing", 404), ("/?q=%00", 422)):
        shown = await visitor.get(path)
        assert shown.status_code == status
        policy = dict(part.strip().split(" ", 1) for part in shown.headers["content-security-policy"].split(";"))
        assert policy == {
            "default-src": "'none'",
            "style-src": "'self'",
            "img-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert shown.headers["referrer-policy"] == "same-origin"


async def test_a_page_that_has_not_changed_is_not_sent_again(visitor: httpx.AsyncClient) -> None:
    first = await visitor.get("/")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    again = await visitor.get("/", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert (await visitor.get("/", headers={"If-None-Match": tag, **CHINESE})).status_code == 200
    await log_in(visitor)
    assert (await visitor.get("/", headers={"If-None-Match": tag})).status_code == 200


async def test_static_files_have_hashed_names_and_are_immutable(caller: httpx.AsyncClient) -> None:
    """Static files have a hash of their content in the name and may be cached forever."""
    addresses = set(re.findall(r'"(/static/[^"]+)"', (await caller.get("/login")).text))
    assert len(addresses) == 2
    for address in addresses:
        answer = await caller.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith("text/css" if ".css" in address else "image/svg+xml")
    for name in ("style.css", "style-0000000000000000.css", "..%2Froutes.py", "%2Fetc%2Fpasswd"):
        assert (await caller.get(f"/static/{name}")).status_code == 404


async def test_head_is_answered_as_get_is(visitor: httpx.AsyncClient) -> None:
    for path in (*PAGES, "/login"):
        head, get = await visitor.head(path), await visitor.get(path)
        assert (head.status_code, head.headers["content-length"]) == (200, get.headers["content-length"])


# --- who may


async def test_a_login_lets_add_and_remove(visitor: httpx.AsyncClient, stocked: Postgres) -> None:
    stranger = await visitor.get("/stocks/600519.SH")
    assert "<button>Watch" not in stranger.text
    assert 'href="/login?back=/stocks/600519.SH"' in stranger.text
    entered = await log_in(visitor, back="/stocks/600519.SH")
    assert (entered.status_code, entered.headers["location"]) == (303, "/stocks/600519.SH")
    assert "<button>Watch" in (await visitor.get("/stocks/600519.SH")).text
    added = await post(visitor, "/stocks/600519.SH/watch", back="/stocks/600519.SH")
    assert (added.status_code, added.headers["location"]) == (303, "/stocks/600519.SH")
    assert stocked.query("SELECT symbol FROM watchlist") == [("600519.SH",)]
    removed = await post(visitor, "/stocks/600519.SH/unwatch", back="/")
    assert (removed.status_code, removed.headers["location"]) == (303, "/")
    assert stocked.query("SELECT symbol FROM watchlist") == []
    assert (await post(visitor, "/logout")).headers["location"] == "/"
    assert (await post(visitor, WRITES[0])).status_code == 401


async def test_the_cookie_holds_no_token_and_only_pages_take_it(caller: httpx.AsyncClient) -> None:
    entered = await log_in(caller)
    cookie = entered.headers["set-cookie"]
    assert TOKEN not in cookie
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly",
        "samesite=strict",
        "path=/",
        f"max-age={logins.LASTS}",
    }
    refused = await caller.put(f"{V1}/watchlist/600519.SH", headers=OURS)
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Proto": "https, http"}])
async def test_over_tls_the_cookie_goes_over_tls_only(headers: dict[str, str], caller: httpx.AsyncClient) -> None:
    scheme = "http" if headers else "https"
    form = {"token": TOKEN}
    entered = await caller.post(f"{scheme}://stockhelper/login", data=form, headers={**OURS, **headers})
    assert "; secure" in entered.headers["set-cookie"].lower()


@pytest.mark.parametrize("token", ["", "x", TOKEN + "x", TOKEN.upper(), "\N{SNOWMAN}"])
async def test_a_wrong_token_is_told(token: str, caller: httpx.AsyncClient) -> None:
    answer = await log_in(caller, token)
    assert answer.status_code == 401
    assert "That is not the token." in words(answer)
    assert "set-cookie" not in answer.headers
    assert 'type="password"' in answer.text


async def test_a_cookie_ends_in_time_and_with_its_token(
    visitor: httpx.AsyncClient, stocked: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log_in(visitor)
    value = visitor.cookies[logins.COOKIE]
    until, _, signature = value.partition(".")

    async def taken(client: httpx.AsyncClient, cookie: str) -> bool:
        client.cookies.clear()
        sent = f"{logins.COOKIE}={cookie}".encode("latin-1")
        answer = await client.post(WRITES[0], headers={b"Sec-Fetch-Site": b"same-origin", b"Cookie": sent})
        assert answer.status_code in (303, 401)
        return answer.status_code == 303

    assert await taken(visitor, value)
    for forged in (
        "",
        ".",
        f"{int(until) + 1}.{signature}",
        f"{until}.",
        until,
        f".{signature}",
        TOKEN,
        f"é.{signature}",
    ):
        assert not await taken(visitor, forged), forged
    async with serving(settings_for(stocked, api_token=TOKEN + "2")) as other:
        assert not await taken(other, value)
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + logins.LASTS + 1)
    assert not await taken(visitor, value)


FOREIGN = [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://stockhelper"},
    {"Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://stockhelper.evil.example"},
    {"Origin": "http://stockhelper:81"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_form_of_another_site_changes_nothing(
    headers: dict[str, str], visitor: httpx.AsyncClient, shelf: Postgres
) -> None:
    await log_in(visitor)
    for path in (*WRITES, "/login", "/logout"):
        answer = await visitor.post(path, data={"token": TOKEN} if path == "/login" else {}, headers=headers)
        assert answer.status_code == 403
        assert "not sent from this page" in words(answer)
        assert "set-cookie" not in answer.headers
    assert shelf.query("SELECT symbol FROM watchlist") == []


@pytest.mark.parametrize("origin", ["http://stockhelper", "https://stockhelper"])
async def test_a_browser_that_tells_the_origin_only_may_send_forms(origin: str, caller: httpx.AsyncClient) -> None:
    # Over plain HTTP beyond loopback browsers send no Sec-Fetch-Site.
    entered = await caller.post("/login", data={"token": TOKEN}, headers={"Origin": origin})
    assert entered.status_code == 303


@pytest.mark.parametrize(
    "back", ["https://evil.example", "//evil.example", "/\\evil.example", "/login", "/stocks/600519.SH/unwatch", "/\n"]
)
async def test_a_form_leads_to_pages_of_ours_only(back: str, caller: httpx.AsyncClient) -> None:
    for answer in (await log_in(caller, back=back), await caller.get("/login", params={"back": back})):
        assert answer.status_code == 422
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("more", "read", "write"),
    [
        # (settings, status of reading and of writing) without a login
        ({"api_token": TOKEN}, 200, 401),
        ({}, 200, 403),
        ({"api_token": TOKEN, "app_bind": "0.0.0.0"}, 401, 401),
        ({"app_bind": "0.0.0.0"}, 403, 403),
        ({"api_token": TOKEN, "app_bind": "0.0.0.0", "api_public_read": True}, 200, 401),
        ({"app_bind": "0.0.0.0", "api_public_read": True}, 200, 403),
    ],
)
async def test_who_may_read_and_write(more: dict[str, object], read: int, write: int, stocked: Postgres) -> None:
    async with serving(settings_for(stocked, **more)) as client:
        client.headers.update(HTML)
        for path in PAGES:
            assert (await client.get(path)).status_code == read
            # Pages know no bearer.
            assert (await client.get(path, headers=BEARER)).status_code == read
        for path in WRITES:
            answer = await post(client, path)
            assert answer.status_code == write
            assert ("www-authenticate" in answer.headers) == (write == 401)
        assert (await client.get("/login")).status_code == 200
        entered = await log_in(client)
        if "api_token" in more:
            assert entered.status_code == 303
            assert [(await client.get(path)).status_code for path in PAGES] == [200, 200]
            assert [(await post(client, path)).status_code for path in WRITES] == [303, 303]
        else:
            assert entered.status_code == 403
            assert "Set API_TOKEN" in words(entered)
            assert "Set API_TOKEN" in words(await client.get("/login"))
            assert 'type="password"' not in (await client.get("/login")).text


async def test_who_has_to_log_in_comes_back_to_where_they_were(shelf: Postgres) -> None:
    async with serving(settings_for(shelf, api_token=TOKEN, app_bind="0.0.0.0")) as client:
        client.headers.update(HTML)
        asked = await client.get("/stocks/600519.SH")
    assert "This needs the token." in words(asked)
    assert '<input type="hidden" name="back" value="/stocks/600519.SH">' in asked.text
    assert "Moutai" not in asked.text


async def test_the_token_is_in_no_line_of_the_log(dead_port: int, log_lines: Lines) -> None:
    async with serving(settings_at(dead_port, api_token=TOKEN)) as client:
        await log_in(client)
        await log_in(client, "canary-secret")
    text = str(log_lines())
    assert "/login" in text
    assert TOKEN not in text
    assert "canary-secret" not in text


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"token=a&token=b", "application/x-www-form-urlencoded", 422),
        (b"other=a", "application/x-www-form-urlencoded", 422),
        (b"", "application/x-www-form-urlencoded", 422),
        (b"token=%ff", "application/x-www-form-urlencoded", 400),
        (b"token=\xff", "application/x-www-form-urlencoded", 400),
        (b"token=" + b"a" * 2000, "application/x-www-form-urlencoded", 422),
        (b"token=" + b"a" * 20_000, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"--x--", "multipart/form-data; boundary=x", 415),
    ],
)
async def test_a_bad_form_is_refused(body: bytes, kind: str, status: int, caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/login", content=body, headers={**OURS, "Content-Type": kind})
    assert answer.status_code == status


# --- errors


async def fail(request: Request) -> Response:
    raise RuntimeError("canary-internals")


def failing_app(port: int) -> Starlette:
    app = create_app(settings_at(port, api_token=TOKEN))
    app.router.routes.append(Route("/fail", fail))
    return app


@pytest.mark.parametrize(
    ("path", "status", "english", "chinese"),
    [
        ("/missing", 404, "There is nothing at this address.", "这个地址没有内容。"),
        ("/stocks/nonsense", 404, "There is nothing at this address.", "这个地址没有内容。"),
        ("/?limit=1", 422, "holds something that cannot be used", "无法使用的内容"),
        ("/stocks/600519.SH?range=2m", 422, "holds something that cannot be used", "无法使用的内容"),
        ("/stocks/600519.SH/watch", 405, "cannot be asked in that way", "不能这样访问"),
        ("/", 503, "The database does not answer.", "数据库没有响应"),
        ("/fail", 500, "Something went wrong here.", "服务出错了"),
    ],
)
async def test_an_error_is_a_page_for_who_asks_for_one(
    path: str, status: int, english: str, chinese: str, dead_port: int
) -> None:
    async with serving(failing_app(dead_port)) as client:
        for language, said in (({}, english), (CHINESE, chinese)):
            answer = await client.get(path, headers={**HTML, **language})
            assert answer.status_code == status
            assert answer.headers["content-type"].startswith("text/html")
            assert answer.headers["cache-control"] == "no-store"
            assert said in words(answer)
            assert "canary" not in answer.text
        plain = await client.get(path)
        assert plain.headers["content-type"] == "application/problem+json"
        assert plain.json()["status"] == status
        if status == 503:
            assert int(answer.headers["retry-after"]) > 0


async def test_a_share_that_is_not_known_is_named(visitor: httpx.AsyncClient) -> None:
    for language, said in (({}, "There is no share 600000.SH."), (CHINESE, "没有股票 600000.SH。")):
        answer = await visitor.get("/stocks/600000.SH", headers=language)
        assert answer.status_code == 404
        assert said in words(answer)
    plain = await visitor.get("/stocks/600000.SH", headers={"Accept": "*/*"})
    assert plain.json()["detail"] == "There is no share 600000.SH."
    await log_in(visitor)
    assert (await post(visitor, "/stocks/600000.SH/watch")).status_code == 404


async def test_the_api_has_no_pages(visitor: httpx.AsyncClient) -> None:
    for path, status in ((f"{V1}/missing", 404), (f"{V1}/stocks/600000.SH", 404), (f"{V1}/stocks?limit=0", 422)):
        answer = await visitor.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    document = (await visitor.get(f"{V1}/openapi.json")).json()
    assert [path for path in document["paths"] if not path.startswith(V1)] == []
