"""Texts that a person saw and found good, kept in the folder `snapshots` beside the test that compares with them.

`UPDATE_SNAPSHOTS=1` writes them again; read the diff before it is committed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeAlias

import pytest

#: Compares a text with the test's snapshot.
Snapshot: TypeAlias = Callable[[str], None]


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Snapshot:
    """Compare a text with the test's snapshot; seconds, ids and the project's folder are masked."""

    def check(text: str) -> None:
        masked = re.sub(r"\d+\.\d+ s\b", "N s", text)
        masked = re.sub(r"\b[0-9a-f]{12}\b", "<id>", masked)
        masked = re.sub(r"/\S*/project/", "<project>/", masked)
        masked = "".join(line.rstrip() + "\n" for line in masked.splitlines())
        name = re.sub(r"\W+", "-", request.node.name).strip("-")
        path = request.path.parent / "snapshots" / f"{name}.txt"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(masked)
        assert path.is_file(), f"no snapshot {path.name}: UPDATE_SNAPSHOTS=1 writes it"
        assert masked == path.read_text()

    return check
