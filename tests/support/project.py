"""A copy of the project in a folder, without an engine."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support import ROOT


def copy_project(root: Path) -> None:
    """Make a project in a folder, with secrets in its .env."""
    for part in ("compose", "migrations", "docker/app"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__", "*.crt"))
    example = (ROOT / ".env.example").read_text()
    (root / ".env").write_text(example.replace("PASSWORD=\n", "PASSWORD=canary-secret\n"))
