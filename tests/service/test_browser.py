"""The pages in a real Chromium: on a phone and a desk, by day and by night, in both languages, by keys and by mouse.

One service and one browser for all of it. Pictures of what was looked at are left in pytest's temporary folder.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from tests.service.conftest import copy_of
from tests.service.steps import TOKEN
from tests.support.alembic import Alembic
from tests.support.browser import chromium
from tests.support.postgres import Postgres
from tests.support.service import running, wait_until_it_answers
from tests.support.waiting import PATIENCE

SHARES = [
    ("600519.SH", "样例酒业", 1460.0, 730),
    ("000001.SZ", "样例银行", 11.2, 250),
    ("300750.SZ", "A share with a name that is long enough to be folded twice", 251.3, 90),
    ("830001.BJ", "样例新股", 23.5, 1),
    ("920002.BJ", "样例未上市", 0.0, 0),
]
LAST = dt.date(2026, 11, 20)
#: How they are looked at: each width, each language and each scheme of colours, and each pair of them.
VIEWS = [(360, "zh-CN", "dark"), (360, "en-GB", "light"), (1280, "zh-CN", "light"), (1280, "en-GB", "dark")]
PAGES = {
    "list": "/?q=0",
    "share": "/stocks/600519.SH",
    "years": "/stocks/600519.SH?range=all&adjust=none",
    "login": "/login",
    "missing": "/missing",
}


#: What the tab key has to reach, and whether the element that has it is seen to have it.
REACHABLE = "a[href], button, input:not([type=hidden], [hidden]), [tabindex='0']"
SEEN = """
    (() => {
        const element = document.activeElement, box = element.getBoundingClientRect();
        return getComputedStyle(element).outlineStyle !== "none" && box.width > 0 && box.left >= 0;
    })()
"""


def stock_up(tables: Postgres) -> None:
    """Shares that do not exist, with prices that nobody paid; the same ones each time."""
    chance = random.Random(7)
    with tables.connect() as connection:
        for symbol, name, first, count in SHARES:
            price = first
            connection.execute(
                "INSERT INTO stocks (symbol, name, exchange, listing_date) VALUES (%s, %s, split_part(%s, '.', 2), %s)",
                (symbol, name, symbol, dt.date(2020, 1, 6)),
            )
            days = [LAST - dt.timedelta(days=back) for back in range(2 * count)]
            with connection.cursor().copy("COPY daily_bars FROM STDIN") as copy:
                for day in sorted([day for day in days if day.weekday() < 5][:count]):
                    opened, closed = (price * (1 + chance.gauss(0, 0.012)) for _ in range(2))
                    high, low = max(opened, closed) * 1.006, min(opened, closed) * 0.994
                    prices = [f"{value:.2f}" for value in (opened, high, low, closed)]
                    copy.write_row((symbol, day, *prices, chance.randrange(10**5, 10**7), "1.00", "1"))
                    price = closed
        connection.execute("INSERT INTO watchlist (symbol) SELECT symbol FROM stocks WHERE symbol <> '000001.SZ'")
        connection.execute(
            "INSERT INTO sync_runs (job, source, started_at, finished_at, outcome, rows)"
            " VALUES ('sync', 'csv', '2026-11-20T08:30:02Z', now(), 'done', 5123)"
        )


@pytest.fixture(scope="module")
def address(migrated: Alembic) -> Iterator[str]:
    """Where the service answers."""
    with copy_of(migrated) as tables:
        stock_up(tables)
        # Nobody reads its log: what would fill the pipe is left out.
        with running(tables.port, **tables.environment, API_TOKEN=TOKEN, LOG_LEVEL="ERROR") as (process, found):
            wait_until_it_answers(process, found)
            yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@dataclass
class Visit:
    """Somebody at a page, and what the browser has to complain about."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)


def visit(context: BrowserContext) -> Visit:
    made = Visit(context.new_page())
    made.page.on("console", lambda message: made.complaints.append(f"{message.type}: {message.text}"))
    made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.page.on("request", lambda request: made.hosts.add(urlsplit(request.url).netloc))
    return made


@contextmanager
def window(browser: Browser, **how: Any) -> Iterator[BrowserContext]:
    """Open a window of its own, which waits for slow pages as patiently as the other tests do."""
    with browser.new_context(**how) as context:
        context.set_default_timeout(PATIENCE * 1000)
        yield context


def enter(page: Page, address: str) -> None:
    page.goto(f"{address}/login")
    page.locator("#token").fill(TOKEN)
    page.locator(".login button").click()
    page.wait_for_url(f"{address}/")


def press(page: Page, role: Any, name: str) -> None:
    """Click on what leads to another page, and wait for that: the present one answers questions as well."""
    with page.expect_navigation():
        page.get_by_role(role, name=name).click()


@pytest.mark.parametrize(("width", "locale", "scheme"), VIEWS, ids=str)
def test_every_page_fits_is_accessible_and_asks_nobody_else(
    width: int, locale: str, scheme: Any, address: str, browser: Browser, pictures: Path
) -> None:
    with window(
        browser, viewport={"width": width, "height": 800}, locale=locale, color_scheme=scheme, reduced_motion="reduce"
    ) as context:
        visited = visit(context)
        page = visited.page
        enter(page, address)
        for name, path in PAGES.items():
            page.goto(address + path)
            page.screenshot(path=pictures / f"{name}-{width}-{locale}-{scheme}.png", full_page=True)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} wide"
            assert page.evaluate("document.documentElement.lang").startswith(locale[:2])
            found = Axe().run(page).response["violations"]
            assert found == [], [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found]
    # A policy that is broken is told there.
    assert [text for text in visited.complaints if "404 (Not Found)" not in text] == []
    assert visited.hosts == {urlsplit(address).netloc}


def test_a_policy_that_is_broken_is_a_complaint(address: str, browser: Browser) -> None:
    foreign = """<p style="color: red">text</p><img src="http://127.0.0.2/x.png">"""
    with window(browser) as context:
        page = context.new_page()
        page.goto(address)
        with (
            page.expect_console_message(lambda message: "style-src" in message.text),
            page.expect_console_message(lambda message: "img-src" in message.text),
        ):
            page.evaluate("html => document.querySelector('main').insertAdjacentHTML('beforeend', html)", foreign)


@pytest.mark.parametrize("path", ["/", "/?q=0", "/stocks/600519.SH", "/login"])
@pytest.mark.parametrize("width", [360, 1280])
def test_tab_key_reaches_all_controls_with_visible_focus(width: int, path: str, address: str, browser: Browser) -> None:
    """The Tab key reaches every control in order, and the focus is always visible."""
    with window(browser, viewport={"width": width, "height": 800}) as context:
        page = context.new_page()
        enter(page, address)
        page.goto(address + path)
        there = page.evaluate(f"window.everything = [...document.querySelectorAll({REACHABLE!r})]; everything.length")
        reached = []
        for _ in range(there):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("everything.indexOf(document.activeElement)"))
            assert page.evaluate(SEEN), page.evaluate("document.activeElement.outerHTML")
        assert reached == list(range(there))


def test_the_first_tab_leads_past_the_head(address: str, browser: Browser) -> None:
    with window(browser) as context:
        page = context.new_page()
        page.goto(address)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator("#content:focus").wait_for()


def test_what_rises_is_red_in_chinese_and_green_in_english(address: str, browser: Browser) -> None:
    colours = {}
    for locale in ("zh-CN", "en-GB"):
        with window(browser, locale=locale) as context:
            page = context.new_page()
            page.goto(f"{address}/stocks/600519.SH")
            colours[locale] = [
                page.eval_on_selector(f"path.{kind}", "path => getComputedStyle(path).stroke")
                for kind in ("rising", "falling")
            ]
    assert colours["zh-CN"] == colours["en-GB"][::-1]
    red, green = ([int(part) for part in text[4:-1].split(",")] for text in colours["zh-CN"])
    assert red[0] > red[1]
    assert green[1] > green[0]


@pytest.mark.parametrize("width", [360, 1280])
def test_it_all_works_without_javascript(width: int, address: str, browser: Browser) -> None:
    with window(
        browser, viewport={"width": width, "height": 800}, locale="en-GB", java_script_enabled=False
    ) as context:
        visited = visit(context)
        page = visited.page
        page.goto(address)
        assert page.get_by_role("button", name="Remove").count() == 0
        press(page, "link", "Log in")
        page.get_by_label("Token").fill("not the token")
        press(page, "button", "Log in")
        assert page.get_by_role("alert").inner_text() == "That is not the token."
        page.get_by_label("Token").fill(TOKEN)
        press(page, "button", "Log in")
        page.get_by_label("Symbol or a part of the name").fill("银行")
        press(page, "button", "Search")
        press(page, "button", "Watch 样例银行")
        assert urlsplit(page.url).path == "/"
        press(page, "link", "样例银行")
        press(page, "link", "1 yr")
        assert "Weekly candles" in page.locator("figure").inner_text()
        press(page, "link", "中文")
        assert "周K线" in page.locator("figure").inner_text()
        press(page, "link", "← 自选股")
        press(page, "link", "English")
        press(page, "button", "Remove 样例银行")
        assert page.get_by_role("link", name="样例银行").count() == 0
        press(page, "button", "Log out")
        assert page.get_by_role("button", name="Remove").count() == 0
    assert [text for text in visited.complaints if "401 (Unauthorized)" not in text] == []
