"""A server that speaks Tushare Pro's protocol: its tables and its errors, as its documentation has them.

https://tushare.pro/document/1?doc_id=130 for the calls, document/2 for the tables. Messages are those that it answers
with: clients have nothing else to tell its errors apart by.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "canary-tushare-token"
#: Values of a bar: open, high, low, close, lots of 100 shares, thousands of yuan.
Bar = tuple[Any, ...]
WRONG_TOKEN = (40101, "您的token不对，请确认。")
NOT_PERMITTED = (40203, "抱歉，您没有接口访问权限，权限的具体详情访问：https://tushare.pro/document/1?doc_id=108。")
TOO_OFTEN = (40203, "抱歉，您每分钟最多访问该接口3次，权限的具体详情访问：https://tushare.pro/document/1?doc_id=108。")
TOO_MUCH_TODAY = (
    40203,
    "抱歉，您每天最多访问该接口5次，权限的具体详情访问：https://tushare.pro/document/1?doc_id=108。",
)
OUT_OF_ORDER = (50101, "系统内部错误，请稍后重试")

COLUMNS = {
    "stock_basic": ("ts_code", "symbol", "name", "list_date"),
    "trade_cal": ("exchange", "cal_date", "is_open"),
    "daily": ("ts_code", "trade_date", "open", "high", "low", "close", "pre_close", "vol", "amount"),
    "adj_factor": ("ts_code", "trade_date", "adj_factor"),
}


@dataclass
class FakeTushare:
    """What it knows, and what it will say."""

    url: str = ""
    #: Day (YYYYMMDD) -> symbol -> bar; a day that is here is a trading day.
    bars: dict[str, dict[str, Bar]] = field(default_factory=dict)
    factors: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    #: Calls of these are answered with this error.
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    #: Answers to give first, each once: an error of the protocol, an HTTP status, or bytes as they are.
    faults: deque[tuple[int, str] | int | bytes] = field(default_factory=deque)
    page: int = 6000
    #: Called before an answer, with the name of the call and its parameters.
    before: Callable[[str, Mapping[str, Any]], None] = lambda api, params: None
    calls: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def count(self) -> Counter[str]:
        """How often each call was made."""
        return Counter(api for api, _ in self.calls)

    def answer(self, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """Return the HTTP status and the body of the answer to a call."""
        api, params = body["api_name"], body["params"]
        self.before(api, params)
        self.calls.append((api, params))
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, bytes):
            return 200, fault
        if isinstance(fault, int):
            return fault, b"<html>no</html>"
        if body["token"] != TOKEN:
            fault = WRONG_TOKEN
        if refusal := fault or self.refused.get(api):
            return 200, _json({"request_id": "x", "code": refusal[0], "msg": refusal[1], "data": None})
        rows = list(self._rows(api, params))
        offset = int(params.get("offset", 0))
        page = rows[offset : offset + self.page]
        wanted = [COLUMNS[api].index(name) for name in body["fields"].split(",")]
        data = {
            "fields": body["fields"].split(","),
            "items": [[row[place] for place in wanted] for row in page],
            "has_more": offset + len(page) < len(rows),
        }
        return 200, _json({"request_id": "x", "code": 0, "msg": "", "data": data})

    def _rows(self, api: str, params: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        match api:
            case "stock_basic":
                for symbol, name in self.names.items():
                    yield symbol, symbol[:6], name, "20010827"
            case "trade_cal":
                for day in self.bars:
                    if params["start_date"] <= day <= params["end_date"]:
                        yield params["exchange"], day, 1
            case "daily":
                for symbol, (*prices, lots, thousands) in self.bars.get(params["trade_date"], {}).items():
                    yield symbol, params["trade_date"], *prices, 0, lots, thousands
            case "adj_factor":
                for symbol, factor in self.factors.items():
                    yield symbol, params["trade_date"], factor


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[FakeTushare]:
    """Serve on a port of loopback for as long as the block lasts."""
    fake = FakeTushare()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = fake.answer(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    fake.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
