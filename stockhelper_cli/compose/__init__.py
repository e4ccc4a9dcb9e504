"""Compose files to a frozen `Project`, by Compose's rules.

    load         the files that count, to a project
    model        Project, Service and what they hold
    create       what of it goes to the engine: bodies of its calls that create containers, networks, volumes

A strict subset of the Compose specification is supported (`keys`); all else is refused with file, line and key.
"""

from __future__ import annotations

from stockhelper_cli.compose.load import load
from stockhelper_cli.compose.model import (
    Build,
    Dependency,
    Healthcheck,
    Network,
    Project,
    PublishedPort,
    Secret,
    Service,
    Volume,
)

__all__ = [
    "Build",
    "Dependency",
    "Healthcheck",
    "Network",
    "Project",
    "PublishedPort",
    "Secret",
    "Service",
    "Volume",
    "load",
]
