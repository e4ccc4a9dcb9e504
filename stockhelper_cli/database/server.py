"""The database server inside its container, as the databases' owner reaches it over the container's own socket.

No password is asked for there (the image's `local all all trust`), so what saves data works also while the password
in .env and the one in the volume differ. What goes in and out is streamed: memory does not grow with the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stockhelper_cli.engine.exchange import exchange
from stockhelper_cli.errors import EngineError

if TYPE_CHECKING:
    from stockhelper_cli.engine.protocol import Engine, Session

#: What our own sessions are called in pg_stat_activity; those of a run that was killed are found by it.
APPLICATION_NAME: Final = "stockhelper"
_FIELD: Final = "\x1f"
#: How much of what a command says on stderr is kept (bytes, from the end).
_KEPT: Final = 16384
_LOG_LINES: Final = 50
#: How long a dump or a count may wait for a table that somebody has locked.
_LOCK_TIMEOUT: Final = "60s"

# What a value looks like as text depends on these; a checksum must not.
_SETTINGS: Final = (
    "SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET extra_float_digits = 1;"
    " SET bytea_output = 'hex'; SET search_path = pg_catalog; SET statement_timeout = 0;"
    f" SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '{_LOCK_TIMEOUT}';"
)
# The sum does not depend on the order of the rows. ONLY: a parent's children are tables of their own.
_TABLES: Final = r"""
SELECT format(
    'SELECT %L, count(*), coalesce(sum(hashtextextended((t.*)::text, 0)::numeric), 0) FROM ONLY %I.%I t',
    n.nspname || '.' || c.relname, n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'
ORDER BY 1 \gexec
"""
_ANY_ROW: Final = r"""
SELECT format('SELECT 1 WHERE EXISTS (SELECT FROM ONLY %I.%I)', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'
    AND c.oid IS DISTINCT FROM to_regclass('public.alembic_version') \gexec
"""
_ANY_TABLE: Final = r"""
SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND n.nspname NOT LIKE 'pg\_%' LIMIT 1
"""
#: Indexes that PostgreSQL keeps and does not use, quoted for SQL.
INVALID_INDEXES: Final = """
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relkind = 'i' ORDER BY 1
"""
_REVISIONS: Final = r"""
SELECT 'SELECT ''revision'', version_num FROM public.alembic_version'
WHERE to_regclass('public.alembic_version') IS NOT NULL \gexec
"""


class ServerError(Exception):
    """The server, or a program of it, refused; the text is what it said, on one line."""


@dataclass(frozen=True, slots=True)
class Table:
    """What is in a table: how many rows, and a sum over them that does not depend on their order."""

    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a database: the migration revisions it is at (sorted), and each table by `schema.name`."""

    revisions: tuple[str, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)

    def differences(self, other: Contents) -> list[str]:
        """Return one line for each thing that differs in the other one; none means that they are the same."""
        lines = []
        if self.revisions != other.revisions:
            lines.append(f"revision {_revisions(other)} in place of {_revisions(self)}")
        for name in sorted({*self.tables, *other.tables}):
            mine, theirs = self.tables.get(name), other.tables.get(name)
            if mine is None or theirs is None:
                lines.append(f"{name} is {'missing' if theirs is None else 'not to be there'}")
            elif mine.rows != theirs.rows:
                lines.append(f"{name} has {theirs.rows} rows in place of {mine.rows}")
            elif mine.checksum != theirs.checksum:
                lines.append(f"{name} has other values in its {mine.rows} rows")
        return lines


def _revisions(contents: Contents) -> str:
    return ", ".join(contents.revisions) or "base"


@dataclass(frozen=True, slots=True)
class Server:
    """The server in a running container, and the role that owns what is in it."""

    engine: Engine
    container: str
    owner: str

    def rows(self, *statements: str, database: str = "postgres") -> list[list[str]]:
        """Run statements, one after the other, and return the rows of all of them as text. Raises `ServerError`."""
        return _split(self._run([part for statement in statements for part in ("-c", statement)], database))

    def execute(self, *statements: str, database: str = "postgres", together: bool = False) -> None:
        """Run statements one after the other, `together` in one transaction. Raises `ServerError`."""
        arguments = [part for statement in statements for part in ("-c", statement)]
        self._run(["--single-transaction", *arguments] if together else arguments, database)

    def version(self) -> str:
        """Return the server's version, such as `15.8`."""
        return self.rows("SHOW server_version")[0][0].partition(" ")[0]

    def databases(self) -> dict[str, int]:
        """Return the databases that are no templates, and the size of each in bytes."""
        rows = self.rows("SELECT datname, pg_database_size(oid) FROM pg_database WHERE NOT datistemplate")
        return {name: int(size) for name, size in rows}

    def roles(self) -> list[str]:
        """Return the names of the roles that are not the server's own, sorted."""
        return [
            name for (name,) in self.rows(r"SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\_%' ORDER BY 1")
        ]

    def log(self) -> list[str]:
        """Return the last lines of the server's log."""
        return self.engine.logs(self.container, tail=_LOG_LINES)

    def free_bytes(self) -> int:
        """Return how much room there is for the databases. Raises `ServerError`."""
        result = self.engine.exec(self.container, ["sh", "-c", 'df -Pk "$PGDATA"'])
        if result.exit_code:
            raise ServerError(one_line(result.stderr))
        return int(result.stdout.split()[-3]) * 1024  # POSIX: size, used, available, capacity, mount point

    def mark(self, name: str) -> None:
        """Leave an empty file beside the data. Raises `ServerError`."""
        result = self.engine.exec(self.container, ["sh", "-c", 'touch "$PGDATA/$0"', name])
        if result.exit_code:
            raise ServerError(one_line(result.stderr))

    def holds_tables(self) -> bool:
        """Whether any of the databases has a table of a user's, with rows or without."""
        return any(self.rows(_ANY_TABLE, database=name) for name in self.databases())

    def invalid_indexes(self, database: str) -> list[str]:
        """Return the indexes that PostgreSQL keeps and does not use, as `schema.name` quoted for SQL, sorted.

        A CREATE INDEX CONCURRENTLY that did not get to its end leaves one behind. Raises `ServerError`.
        """
        return [name for (name,) in self.rows(INVALID_INDEXES, database=database)]

    def end_sessions(self, database: str) -> None:
        """End every session on a database."""
        self.rows(
            f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = {literal(database)}"
            " AND pid <> pg_backend_pid()"
        )

    def end_own_sessions(self) -> None:
        """End the sessions that a run of ours has left behind that was killed; the caller holds the project's lock."""
        self.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            f" WHERE application_name = {literal(APPLICATION_NAME)} AND pid <> pg_backend_pid()"
        )

    def contents(self, database: str) -> Contents:
        """Return what is in a database. Raises `ServerError`."""
        with Snapshot(self, database) as snapshot:
            return snapshot.contents()

    def dump(self, database: str, snapshot: str) -> Session:
        """Start `pg_dump` in its custom format (compressed, restored selectively) on a snapshot."""
        arguments = [
            "--format=custom",
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={_LOCK_TIMEOUT}",
            "--no-password",
        ]
        return self.open(["pg_dump", *arguments, database], stdin=False)

    def open(self, command: Sequence[str], *, stdin: bool, database: str = "postgres") -> Session:
        """Start a program of the server's as the owner."""
        environment = self._environment(database)
        return self.engine.open(self.container, command, tty=False, stdin=stdin, environment=environment)

    def _run(self, arguments: Sequence[str], database: str) -> str:
        command = ["psql", "-w", "-X", "-q", "-A", "-t", "-F", _FIELD, "-v", "ON_ERROR_STOP=1", *arguments]
        result = self.engine.exec(self.container, command, environment=self._environment(database))
        if result.exit_code:
            raise ServerError(one_line(result.stderr or result.stdout) or f"psql exited with {result.exit_code}")
        return result.stdout.decode()

    def _environment(self, database: str) -> dict[str, str]:
        return {"PGUSER": self.owner, "PGDATABASE": database, "PGAPPNAME": APPLICATION_NAME, "LC_ALL": "C"}


class Snapshot:
    """A database as it was at one moment: a transaction that sees it so for as long as it is open.

    `id` lets others see the same. Raises `ServerError` when the session is refused or breaks off.
    """

    def __init__(self, server: Server, database: str) -> None:
        self._session = server.open(
            ["psql", "-w", "-X", "-q", "-A", "-t", "-F", _FIELD, "-v", "ON_ERROR_STOP=1", "-f", "-"],
            stdin=True,
            database=database,
        )
        self._said = bytearray()
        self._lines = self._read()
        try:
            self.id = self._ask(
                f"{_SETTINGS} BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot();"
            )[0][0]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the transaction."""
        self._session.close()

    def contents(self) -> Contents:
        """Return what is in the database; every row is read."""
        revisions = sorted(version for _, version in self._ask(_REVISIONS))
        tables = {name: Table(int(rows), checksum) for name, rows, checksum in self._ask(_TABLES)}
        return Contents(tuple(revisions), tables)

    def holds_rows(self) -> bool:
        """Whether any table but Alembic's own has a row."""
        return bool(self._ask(_ANY_ROW))

    def _ask(self, script: str) -> list[list[str]]:
        """Let psql run a script and return what it printed until the mark that we let it print behind that."""
        mark = "-- that was all --"
        try:
            self._session.write(f"{script}\n\\echo '{mark}'\n".encode())
        except EngineError as error:
            raise ServerError(one_line(bytes(self._said)) or error.cause) from error
        rows: list[list[str]] = []
        for line in self._lines:
            if line == mark:
                return rows
            rows.append(line.split(_FIELD))
        raise ServerError(one_line(bytes(self._said)) or "psql ended early")

    def _read(self) -> Iterator[str]:
        rest = b""
        for stream, data in self._session.output():
            if stream == 2:
                self._said.extend(data)
                continue
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode()


def collect(session: Session, take: Callable[[bytes], object]) -> None:
    """Give a program's output to `take`, piece by piece, until it ends.

    Raises `ServerError` with what it said if it did not end well.
    """
    with closing(output_of(session)) as output:
        for data in output:
            take(data)


def output_of(session: Session) -> Generator[bytes, None, None]:
    """Yield a program's output, piece by piece; at its end raise `ServerError` if it did not end well."""
    said = bytearray()
    with closing(session):
        for stream, data in session.output():
            if stream == 1:
                yield data
            else:
                said.extend(data)
                del said[:-_KEPT]
        _check(session.exit_code(), said)


def feed(session: Session, pieces: Iterable[bytes]) -> bytes:
    """Give a program its input, piece by piece, and return the beginning of what it printed when it has ended.

    Raises `ServerError` with what it said if it did not end well; one that ends early is not an error of its own.
    """
    printed, said = bytearray(), bytearray()

    def take(stream: int, data: bytes) -> None:
        if stream == 1:
            printed.extend(data[: _KEPT - len(printed)])
        else:
            said.extend(data)
            del said[:-_KEPT]

    _check(exchange(session, pieces, take), said)
    return bytes(printed)


def _check(code: int, said: bytearray) -> None:
    if code:
        raise ServerError(one_line(bytes(said)) or f"exit code {code}")


def one_line(said: bytes) -> str:
    """Return what a program of the server's said, on one line: its first error, and what belongs to it."""
    text = said.decode(errors="replace").strip()
    errors = re.search(r"(?:^|\b)(?:ERROR|FATAL|error|fatal):\s+(.*)", text, re.DOTALL)
    return " ".join((errors[1] if errors else text).split())


def identifier(name: str) -> str:
    """Return a name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL (with standard_conforming_strings, which is the default since PostgreSQL 9.1)."""
    return "'" + text.replace("'", "''") + "'"


def _split(output: str) -> list[list[str]]:
    return [line.split(_FIELD) for line in output.splitlines()]
