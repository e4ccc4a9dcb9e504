"""A real Chromium, the distribution's: installed by `python -m tests.support.prepare`, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stockhelper_cli.machine import apt
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: With a font that has Chinese characters: boxes in their place are of another width.
PACKAGES = ("chromium", "fonts-droid-fallback")


def install() -> None:
    """Install Chromium, where there is none, from this machine's own apt sources."""
    if shutil.which("chromium") is None:
        assert apt.can_install(), f"chromium is needed: {apt.install_command(PACKAGES)}"
        apt.install(PACKAGES, lambda event: None, code="failed")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium, without its sandbox, which root cannot have."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path is not None, "chromium is not here: run `make test`, which installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, timeout=PATIENCE * 1000)
        try:
            yield browser
        finally:
            browser.close()
