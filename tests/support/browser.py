"""A real Chromium, the distribution's: installed by `python -m tests.support.prepare`, driven by Playwright."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stockhelper_cli.machine import apt
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def install() -> None:
    """Install what is missing of Chromium and a Chinese font, from this machine's own apt sources.

    Without the font, Chinese characters are boxes of another width.
    """
    missing = [] if shutil.which("chromium") else ["chromium"]
    missing += [] if _has_chinese_font() else ["fonts-droid-fallback", "fontconfig"]
    if missing:
        assert apt.can_install(), f"the tests of the pages need a browser: {apt.install_command(missing)}"
        apt.install(missing, lambda event: None, code="failed")


def _has_chinese_font() -> bool:
    if shutil.which("fc-list") is None:
        return False
    listed = subprocess.run(["fc-list", ":lang=zh"], capture_output=True, text=True, check=True, timeout=PATIENCE)
    return bool(listed.stdout)


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
