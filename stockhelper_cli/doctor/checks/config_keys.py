"""`config.keys`."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

from stockhelper_cli.compose.interpolate import variables_in
from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

_EXAMPLE_KEY: Final = re.compile(r"^#?([A-Za-z_][A-Za-z0-9_]*)=", re.MULTILINE)
#: What `docker compose` itself reads from .env (its reference, "Pre-defined environment variables").
_OF_COMPOSE: Final = frozenset(
    {
        "COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR", "COMPOSE_PROFILES", "COMPOSE_ENV_FILES",
        "COMPOSE_CONVERT_WINDOWS_PATHS", "COMPOSE_IGNORE_ORPHANS", "COMPOSE_REMOVE_ORPHANS", "COMPOSE_PARALLEL_LIMIT",
        "COMPOSE_ANSI", "COMPOSE_STATUS_STDOUT", "COMPOSE_DISABLE_ENV_FILE", "COMPOSE_MENU", "COMPOSE_EXPERIMENTAL",
        "COMPOSE_PROGRESS", "COMPOSE_HTTP_TIMEOUT",
    }
)  # fmt: skip


class ConfigKeys(Check):
    """Compares the keys of .env with what anything reads.

    One that resembles a known key is taken for a slip; any other may be meant for a service of the user's own, which
    gets all of .env by `env_file`.
    """

    id = "config.keys"
    group = Group.CONFIGURATION
    title = "no key of .env is a slip for another"
    needs = ("config.compose",)

    def examine(self, context: Context) -> Finding:
        """Compare them."""
        dotenv = context.project.dotenv
        if dotenv is None:
            return skipped("no env file is used")
        known = set(_OF_COMPOSE)
        for file in context.project.files:
            known.update(variables_in(file.read_text(errors="replace")))
        example = context.root / ".env.example"
        if example.is_file():
            known |= set(_EXAMPLE_KEY.findall(example.read_text(errors="replace")))
        unknown = [key for key in dotenv if key not in known]
        near = {key: difflib.get_close_matches(key, known - set(dotenv), 1, 0.8) for key in unknown}
        slips = {key: found[0] for key, found in near.items() if found}
        if not slips:
            return ok("all are known" if not unknown else f"{', '.join(unknown)}: known to nobody here, and left alone")
        return warning(
            "; ".join(f"{dotenv.shown}:{dotenv.line(key)}: {key} is not known" for key in slips),
            *(f"did you mean {meant}? It has its default now" for meant in slips.values()),
            remedy="; ".join(f"rename {key} to {meant} in {dotenv.shown}" for key, meant in slips.items()),
        )
