"""What must not be shown: the values of settings whose names say that they are secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "********"
#: Names of settings that hold secrets.
SECRET_NAME: Final = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIALS?)$", re.IGNORECASE)


def secret_values(settings: Mapping[str, str | None]) -> set[str]:
    """Return the values of those settings whose names say that they are secret."""
    return {value for name, value in settings.items() if value and SECRET_NAME.search(name)}


def mask(tree: Any, settings: Mapping[str, str]) -> Any:
    """Return a tree of mappings, lists and scalars with every secret masked.

    A value is masked whole under a name that says it is secret; elsewhere wherever a secret of `settings` stands in it.
    """
    # Longest first: one secret may be a part of another.
    secrets = sorted(secret_values(settings), key=len, reverse=True)
    pattern = (
        re.compile("|".join(re.escape(form) for s in secrets for form in {s.replace("$", "$$"), s}))
        if secrets
        else None
    )

    def visit(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {key: visit(entry, str(key)) for key, entry in value.items()}
        if isinstance(value, list):
            return [visit(entry, "") for entry in value]
        if isinstance(value, str) and value:
            if SECRET_NAME.search(name):
                return MASK
            return pattern.sub(MASK, value) if pattern else value
        return value

    return visit(tree, "")
