"""The environment that tests start with: this machine's, without what a developer's shell sets for other programs.

A test must find the same whoever runs it. So the settings of the stack, of terminals and of Python are removed here.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from functools import cache
from typing import Final

from tests.support import ROOT

#: Settings of the shell by which a build on this machine finds its packages. A sandbox has them in its .env.
FETCHING: Final = ("APT_MIRROR", "PIP_INDEX_URL")
#: Proxies are kept for the tests that fetch packages themselves. A sandbox does without: its builds are cached.
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
#: What preparing this machine may need.
_KEPT: Final = frozenset({*FETCHING, *PROXIES, "BUILD_CA_FILE", "REGISTRY_MIRROR"})
#: What settings begin with, and what changes how programs print, where they connect to and what they build for.
_PREFIXES: Final = (
    *("COMPOSE_", "POSTGRES_", "APP_", "DB_", "MIGRATION_", "METRICS_", "PROMETHEUS_", "TUSHARE_", "SYNC_", "PG"),
    *("CLICOLOR", "TTY_", "UVICORN_", "BUILDKIT_"),
)
_NAMES: Final = frozenset(
    {
        *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "DOCKER_DEFAULT_PLATFORM", "DOCKER_BUILDKIT"),
        *("PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "PYTHONWARNINGS", "PYTHONDEVMODE"),
    }
)


@cache
def settings() -> frozenset[str]:
    """Return the name of every setting of the stack."""
    return frozenset(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the settings of the stack, proxies among them."""
    dropped = {*settings(), *PROXIES, *map(str.lower, PROXIES)}
    return {key: value for key, value in environ.items() if key not in dropped and not _is_foreign(key)}


def begin() -> None:
    """Remove from this process what its tests must not depend on."""
    ours = settings() - _KEPT
    for key in [*os.environ]:
        if _is_foreign(key) or key in ours:
            del os.environ[key]
    # A job in the background of a shell is started deaf to Ctrl-C, and so would be the commands of the tests.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Files that a test writes are read by the users of containers. A test of the umask sets its own.
    os.umask(0o022)


def _is_foreign(key: str) -> bool:
    return key.startswith(_PREFIXES) or key in _NAMES
