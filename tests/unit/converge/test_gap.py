"""How long the app was away during a restart."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stockhelper_cli.converge import gap
from stockhelper_cli.converge.gap import GapMeter
from tests.support.waiting import PATIENCE


def test_gap_meter_waits_for_the_first_answer_of_a_slow_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement waits for the first answer of a slow app before anything is stopped."""
    monkeypatch.setattr(gap, "PROBE_SECONDS", PATIENCE)
    answered = threading.Event()

    class App(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            threading.Event().wait(0 if answered.is_set() else 1.5)
            answered.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), App) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with GapMeter(f"http://127.0.0.1:{server.server_port}"):
            assert answered.is_set()
        server.shutdown()
