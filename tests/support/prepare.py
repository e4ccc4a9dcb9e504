"""What the tests need of the machine, beyond Python packages: an engine, base images, the real Compose, and a browser.

Run by `make test`; with `fast`, by `make test-fast`, whose tests need an engine and PostgreSQL's image alone. Whatever
is missing and cannot be had ends the run here: no test is skipped for it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from stockhelper_cli.main import run
from tests.support import ROOT, browser, compose_cli, environment
from tests.support.sandbox import NEXT_POSTGRES, sandbox


def set_up(root: Path) -> None:
    """Run `stockhelper setup` on a project, and end the run if it fails."""
    if code := run(["--directory", str(root), "--yes", "setup"]):
        sys.exit(code)


if __name__ == "__main__":
    environment.begin()
    set_up(ROOT)
    # The tests use the base images that a project has by default, whatever images the .env of this checkout names.
    with tempfile.TemporaryDirectory() as bare:
        shutil.copy(ROOT / ".env.example", bare)
        for part in ("compose", "docker/base"):
            shutil.copytree(ROOT / part, Path(bare) / part)
        set_up(Path(bare))
    if sys.argv[1:] == ["fast"]:  # for tests that bring up no stack
        sys.exit()
    # The major that the tests upgrade to and what watches the stack, while the rest is made; where they are there
    # already, this takes no time.
    further = {"POSTGRES_IMAGE": NEXT_POSTGRES, "COMPOSE_PROFILES": "monitoring"}
    with tempfile.TemporaryDirectory() as other, sandbox(Path(other), **further) as newer:
        building = subprocess.Popen(newer.command("--yes", "--quiet", "setup"), cwd=newer.root)
        compose_cli.install()
        browser.install()
        # Before the tests' workers: all of them share this image, and none of them must build it from under another.
        with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder)) as project:
            code = run(["--directory", str(project.root), "build"])
        sys.exit(building.wait() or code)
