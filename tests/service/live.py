"""The service as the image starts it, on a real database, for tests that share it; it keeps its log in a file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.service.conftest import copy_of
from tests.service.steps import BEARER, TOKEN, V1, stock
from tests.support.alembic import Alembic
from tests.support.postgres import Postgres
from tests.support.service import AT_ONCE, running, wait_until_it_answers
from tests.support.waiting import request

#: Stands for whatever a caller would not like to read in a log.
CANARY = "canary-secret"


@dataclass
class Live:
    """A service that runs: where it answers, and what it has said."""

    process: subprocess.Popen[str]
    address: str
    database: Postgres
    log: Path
    _read: int = field(default=0)

    @property
    def place(self) -> tuple[str, int]:
        """The host and port, for those who speak to it by themselves."""
        host, _, port = self.address.removeprefix("http://").partition(":")
        return host, int(port)

    def lines(self) -> list[Mapping[str, Any]]:
        """Return the log since the last look; fails for a line that is not JSON."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            # The last one may still be on its way.
            text = log.read().rpartition(b"\n")[0]
        self._read += len(text) + 1 if text else 0
        return [json.loads(line) for line in text.split(b"\n") if text]

    def asked(self) -> int:
        """Return the status of its answer to a usual request."""
        return request("GET", f"{self.address}{V1}/stocks", headers=BEARER, timeout=AT_ONCE).status_code

    def check(self) -> None:
        """Fail unless it answers at once, and has told of no fault of its own nor of a secret since the last look."""
        assert self.asked() == 200
        wrong = [
            line
            for line in self.lines()
            if "exception" in line
            or line["level"] in ("error", "critical")
            or (line.get("status") or 0) >= 500
            or CANARY in str(line)
            or TOKEN in str(line)
        ]
        assert wrong == [], wrong


@contextmanager
def live(
    migrated: Alembic, folder: Path, before: str = "", kind: type[Live] = Live, **environment: str
) -> Iterator[Live]:
    """Start it on a database with a few shares of its own; at the end it must stop at once, all its log in JSON."""
    log = folder / "service.log"
    with copy_of(migrated) as database, log.open("w") as written:
        stock(database)
        told = {**database.environment, "API_TOKEN": TOKEN, **environment}
        with running(database.port, written, before, **told) as (process, address):
            wait_until_it_answers(process, address)
            made = kind(process, address, database, log)
            yield made
            made.check()
            process.terminate()
            process.wait(timeout=AT_ONCE)
            for line in log.read_text().splitlines():
                json.loads(line)
