"""The application's database role: it reads and writes rows, and can change nothing else.

Temporary tables are allowed to it, which nobody else sees and which go with its session: bars are loaded by way of one.

Made and repaired by whoever owns the tables, with each migration, so that a volume of any age ends up the same.
"""

from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Identifier, Literal

#: What the role must be, as the columns of pg_roles, and the word that sets it right. Only words that are needed
#: are spoken: on a server where the owner is no superuser, even NOSUPERUSER is refused to it.
_ATTRIBUTES = (
    ("NOT rolcanlogin", "LOGIN"),
    ("rolsuper", "NOSUPERUSER"),
    ("rolcreatedb", "NOCREATEDB"),
    ("rolcreaterole", "NOCREATEROLE"),
    ("rolreplication", "NOREPLICATION"),
    ("rolbypassrls", "NOBYPASSRLS"),
    ("rolconnlimit <> -1", "CONNECTION LIMIT -1"),
    ("rolvaliduntil < 'infinity'", "VALID UNTIL 'infinity'"),
)

# Everything is taken before the right part is given, in one transaction: too much is repaired as well as too little,
# and nobody sees the state in between. Default privileges make a table usable in the moment its migration commits.
_PRIVILEGES = """
    REVOKE ALL ON DATABASE {database} FROM {role};
    REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM PUBLIC;
    GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role};
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    REVOKE ALL ON SCHEMA public FROM {role};
    GRANT USAGE ON SCHEMA public TO {role};
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
    REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role};
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {role};
"""


class RoleError(Exception):
    """The role cannot be made or repaired; the message says why in one line, and holds no secret."""


def ensure(connection: psycopg.Connection[Any], name: str, password: str) -> bool:
    """Make the role, or give it exactly the password and the rights it should have; True when it was made.

    One transaction, repeatable. The connection is the owner's and in no transaction. Raises `RoleError`.
    """
    if not password:
        raise RoleError(f'the role "{name}" needs a password: APP_DB_PASSWORD is empty')
    try:
        with connection.transaction():
            return _ensure(connection, name, password)
    except psycopg.Error as error:
        # Its text may end in the statement, and that holds the password's verifier.
        reason = error.diag.message_primary or type(error).__name__
        raise RoleError(f'the role "{name}" cannot be made or repaired: {reason}') from None


def _ensure(connection: psycopg.Connection[Any], name: str, password: str) -> bool:
    role = Identifier(name)
    owner, database, owned = _row(
        connection,
        """SELECT current_user, current_database(),
                  (SELECT min(datname) FROM pg_database JOIN pg_roles r ON r.oid = datdba WHERE rolname = {name})""",
        name=Literal(name),
    )
    # Taking its rights from a role that owns databases would lock their owner out.
    if name == owner or owned is not None:
        raise RoleError(
            f'the role "{name}" owns the database "{owned or database}": '
            "APP_DB_USER must be another role than POSTGRES_USER"
        )
    faults = SQL(", ").join(SQL(column) for column, _ in _ATTRIBUTES)
    found = _row(connection, "SELECT {faults} FROM pg_roles WHERE rolname = {name}", faults=faults, name=Literal(name))
    if not found:
        _run(connection, "CREATE ROLE {role} LOGIN", role=role)
    words = [SQL(word) for (_, word), wrong in zip(_ATTRIBUTES, found, strict=False) if wrong]
    if words:
        _run(connection, "ALTER ROLE {role} {words}", role=role, words=SQL(" ").join(words))
    # What goes to the server, and so into its log should a statement be logged, is only the verifier.
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    _run(connection, "ALTER ROLE {role} PASSWORD {verifier}", role=role, verifier=Literal(verifier))

    memberships = connection.execute(
        "SELECT g.rolname FROM pg_auth_members JOIN pg_roles g ON g.oid = roleid JOIN pg_roles m ON m.oid = member"
        " WHERE m.rolname = %s",
        (name,),
    ).fetchall()
    for (group,) in memberships:
        _run(connection, "REVOKE {group} FROM {role}", group=Identifier(group), role=role)
    # The owner of a table may alter it, whatever has been revoked.
    (owns,) = _row(
        connection,
        """SELECT EXISTS (SELECT FROM pg_shdepend JOIN pg_roles r ON r.oid = refobjid WHERE deptype = 'o'
                          AND refclassid = 'pg_authid'::regclass AND rolname = {name})""",
        name=Literal(name),
    )
    if owns:
        _run(connection, "REASSIGN OWNED BY {role} TO CURRENT_USER", role=role)

    _run(connection, _PRIVILEGES, database=Identifier(database), role=role)
    (versions,) = _row(connection, "SELECT to_regclass('public.alembic_version')")
    if versions is not None:
        _run(connection, "REVOKE INSERT, UPDATE, DELETE ON public.alembic_version FROM {role}", role=role)
    return not found


def _run(connection: psycopg.Connection[Any], statement: str, **parts: Composable) -> None:
    connection.execute(SQL(statement).format(**parts))


def _row(connection: psycopg.Connection[Any], query: str, **parts: Composable) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(SQL(query).format(**parts)).fetchone()
    return row or ()
