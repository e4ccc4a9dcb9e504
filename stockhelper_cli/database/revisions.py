"""Where the database stands in its migrations, and where the sources lead."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import labels
from stockhelper_cli.database.psql import (
    QUESTION_SECONDS,
    Credentials,
    NotAnswering,
    QueryFailed,
    database_service,
    query,
)
from stockhelper_cli.errors import ConfigError, Conflict, NotFound

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.engine.protocol import Container, Engine

_UNDEFINED_TABLE: Final = "42P01"


def read_revisions(project: Project, engine: Engine, containers: Sequence[Container]) -> frozenset[str] | None:
    """Return the revisions that the running database is at: empty before the first, None if it cannot be asked.

    A database that refuses the password or lacks its database cannot be asked either: whether that is an error is
    for the wait on its readiness to say.
    """
    service = database_service(project.services)
    if service is None:
        return None
    for container in containers:
        if container.labels.get(labels.SERVICE) == service.name and container.running:
            try:
                rows = query(
                    engine,
                    container.id,
                    Credentials.of(service.environment),
                    "SELECT version_num FROM alembic_version",
                    limit_seconds=QUESTION_SECONDS,
                )
            except QueryFailed as error:
                return frozenset() if error.sqlstate == _UNDEFINED_TABLE else None
            except (NotAnswering, NotFound, Conflict):
                return None
            return frozenset(row[0] for row in rows)
    return None


def heads_of_sources(versions: Path) -> list[str]:
    """Return the migration heads of a `versions` folder, sorted: revisions that no other one builds upon.

    Raises `ConfigError` (config.value) for a file that cannot be read as Python.
    """
    return revisions_of_sources(versions)[1]


def revisions_of_sources(versions: Path) -> tuple[set[str], list[str]]:
    """Return all revisions of a `versions` folder, and of them the heads, sorted.

    The files are read, not run: `revision` and `down_revision` are literals in every file that Alembic writes.
    Raises `ConfigError` (config.value) for a file that cannot be read as Python.
    """
    revisions: set[str] = set()
    ancestors: set[str] = set()
    for file in sorted(versions.glob("*.py")):
        try:
            tree = ast.parse(file.read_bytes(), str(file))
        except (SyntaxError, ValueError) as error:  # ValueError: a NUL, before Python 3.11.4
            line = getattr(error, "lineno", None) or 1
            raise ConfigError(
                "config.value",
                f"{file}:{line}: the migration is not valid Python",
                cause=getattr(error, "msg", str(error)),
            ) from error
        values = dict(_literals(tree))
        if isinstance(revision := values.get("revision"), str):
            revisions.add(revision)
            ancestors.update(_names(values.get("down_revision")), _names(values.get("depends_on")))
    return revisions, sorted(revisions - ancestors)


def _literals(tree: ast.Module) -> Iterable[tuple[str, Any]]:
    """Yield the module's assignments of literals, plain and annotated."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            yield name, ast.literal_eval(value)
        except ValueError:
            continue


def _names(value: object) -> set[str]:
    if isinstance(value, str):
        return {value}
    return {name for name in value if isinstance(name, str)} if isinstance(value, (tuple, list)) else set()
