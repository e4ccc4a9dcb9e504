"""Where the database stands in its migrations, and where the code leads."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
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
    from stockhelper_cli.engine.protocol import Container, Engine, Image

#: Where a project that builds its image keeps its migrations, in the build's context.
VERSIONS: Final = Path("migrations", "versions")
_UNDEFINED_TABLE: Final = "42P01"
#: The comment is what migrations/env.py leaves there: all revisions that were applied, oldest first.
_RECORDED: Final = "SELECT version_num, obj_description('alembic_version'::regclass, 'pg_class') FROM alembic_version"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a database says of itself: the revisions it is at (none before the first), and by which it came there.

    `line` is oldest first, and empty where it was not noted: the database was migrated by something else.
    """

    at: frozenset[str] = frozenset()
    line: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(sorted(self.at)) or "base"


@dataclass(frozen=True, slots=True)
class Code:
    """The revisions that a version of the code has.

    `heads` are those that no other one builds upon, sorted. `parents` are all of them by what each builds upon; None
    where only the heads are known, as of an image whose sources are not there.
    """

    heads: tuple[str, ...] = ()
    parents: Mapping[str, frozenset[str]] | None = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(self.heads) or "base"

    def until(self, revisions: Iterable[str]) -> set[str]:
        """Return these revisions and all that they build upon, as far as the code has them."""
        parents = self.parents or {}
        found: set[str] = set()
        todo = [revision for revision in revisions if revision in parents]
        while todo:
            revision = todo.pop()
            if revision not in found:
                found.add(revision)
                todo.extend(parents[revision])
        return found


class Position(StrEnum):
    """How a database stands to a version of the code."""

    HEAD = "at head"
    BEHIND = "behind"
    #: It came by the code's head, and went on with revisions that the code does not have.
    AHEAD = "ahead"
    #: It is at a revision that the code does not have, and did not come by the code's head.
    UNKNOWN = "at an unknown revision"
    #: The code has several heads: there is no one place to be at.
    SEVERAL_HEADS = "without one head to go to"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a database stands to a version of the code.

    `pending` are the revisions that upgrading would apply, sorted, as far as they are known; `strange` are those that
    the database is at and the code does not have.
    """

    position: Position
    recorded: Recorded
    code: Code
    pending: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()


def compare(recorded: Recorded, code: Code) -> Standing:
    """Return how a database stands to a version of the code."""
    if len(code.heads) > 1:
        return Standing(Position.SEVERAL_HEADS, recorded, code)
    if recorded.at == frozenset(code.heads):
        return Standing(Position.HEAD, recorded, code)
    strange = tuple(sorted(recorded.at - set(code.parents))) if code.parents is not None else ()
    if code.heads and set(code.heads) <= set(recorded.line) - recorded.at:
        return Standing(Position.AHEAD, recorded, code, strange=strange or tuple(sorted(recorded.at)))
    if strange:
        return Standing(Position.UNKNOWN, recorded, code, strange=strange)
    pending = code.until(code.heads) - code.until(recorded.at)
    return Standing(Position.BEHIND, recorded, code, pending=tuple(sorted(pending)))


def standing(project: Project, engine: Engine, containers: Sequence[Container], code: Code) -> Standing | None:
    """Return how the running database stands to the code, None if it does not run or cannot be asked.

    Raises `StockhelperError` for a refused password (db.password_drift) or a missing database (db.half_initialised).
    """
    recorded = read_recorded(project, engine, containers)
    return None if recorded is None else compare(recorded, code)


def read_recorded(project: Project, engine: Engine, containers: Sequence[Container]) -> Recorded | None:
    """Return what the running database says of its revisions, None if it does not run or cannot be asked.

    Raises `StockhelperError` for a refused password (db.password_drift) or a missing database (db.half_initialised).
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
                    _RECORDED,
                    limit_seconds=QUESTION_SECONDS,
                )
            except QueryFailed as error:
                return Recorded() if error.sqlstate == _UNDEFINED_TABLE else None
            except (NotAnswering, NotFound, Conflict):
                return None
            line = next((comment for _, *comments in rows for comment in comments), "")
            return Recorded(frozenset(row[0] for row in rows), tuple(line.split()))
    return None


def code_of(project: Project, image: Image | None) -> Code | None:
    """Return the revisions that an image brings; without an image, those of the project's sources.

    An image that does not say what it was built of is taken to be built of the sources. Returns None where neither
    tells. Raises `ConfigError` (config.value) for a migration that cannot be read as Python.
    """
    migrating = {service.image for service in project.services.values() if service.role == "migrate"}
    builds = (service.build for service in project.services.values() if service.image in migrating)
    build = next(filter(None, builds), None)
    sources = code_of_sources(build.context / VERSIONS) if build is not None else None
    named = image.labels.get(labels.MIGRATION_HEADS) if image is not None else None
    if named is None:
        return sources
    heads = tuple(filter(None, named.split(",")))
    if sources is None or not sources.until(heads).issuperset(heads):
        return Code(heads, None)
    # The image may be older than the sources: it has what leads to its heads.
    assert sources.parents is not None
    return Code(heads, {revision: sources.parents[revision] for revision in sources.until(heads)})


def heads_of_sources(versions: Path) -> list[str]:
    """Return the migration heads of a `versions` folder, sorted: revisions that no other one builds upon.

    Raises `ConfigError` (config.value) for a file that cannot be read as Python.
    """
    return list(code_of_sources(versions).heads)


def code_of_sources(versions: Path) -> Code:
    """Return the revisions of a `versions` folder.

    The files are read, not run: `revision` and `down_revision` are literals in every file that Alembic writes.
    Raises `ConfigError` (config.value) for a file that cannot be read as Python.
    """
    parents: dict[str, frozenset[str]] = {}
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
            parents[revision] = frozenset(_names(values.get("down_revision")) | _names(values.get("depends_on")))
    heads = set(parents) - {ancestor for ancestors in parents.values() for ancestor in ancestors}
    return Code(tuple(sorted(heads)), parents)


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
