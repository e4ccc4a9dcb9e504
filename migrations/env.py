"""How Alembic reaches the database: the address from the environment, one migration at a time, one transaction each."""

import logging
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from alembic import context
from alembic.command import downgrade, stamp, upgrade
from alembic.operations import MigrationScript
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, Table
from sqlalchemy.exc import DBAPIError

from stockhelper_app import migration, roles
from stockhelper_app.models import Base
from stockhelper_app.settings import MigrationSettings, SettingsError, load

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("stockhelper.migrate")


def configure(**how: Any) -> None:
    """Describe the migration to Alembic; `how` is where it goes, a connection or plain SQL."""
    context.configure(
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=True,
        on_version_apply=remember_line,
        process_revision_directives=number,
        **how,
    )


def remember_line(
    ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]
) -> None:
    """Note at the version table by which revisions the schema came to where it is, oldest first.

    Code that does not have the last ones can tell by it that it is older, and not of another line.
    """
    script = ScriptDirectory.from_config(context.config)
    line = [revision.revision for revision in script.iterate_revisions(tuple(heads), "base")] if heads else []
    comment = " ".join(reversed(line))
    ctx.impl.create_table_comment(Table("alembic_version", MetaData(), comment=comment or None))


def number(
    ctx: MigrationContext, revision: str | Iterable[str | None] | Iterable[str], directives: list[MigrationScript]
) -> None:
    """Give a new revision the number after the last one's, unless its id was asked for (`--rev-id`)."""
    head = ScriptDirectory.from_config(context.config).get_current_head() or "0000"
    if head.isdecimal() and getattr(context.config.cmd_opts, "rev_id", None) is None:
        directives[0].rev_id = f"{int(head) + 1:0{len(head)}}"


def write_sql(settings: MigrationSettings) -> None:
    """Print the migration as SQL (`--sql`); no database is asked."""
    configure(url=settings.url, literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.run_migrations()


def migrate(settings: MigrationSettings) -> None:
    """Run Alembic's command on the database; a command that changes it holds the lock and sees to the role."""
    engine = migration.engine(settings)
    with engine.connect() as connection:
        session = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        connection.rollback()
        configure(connection=connection)
        # upgrade, downgrade and stamp have a destination; check, current and revision only look.
        if "destination_rev" not in context.get_context().opts:
            context.run_migrations()
            return
        migration.acquire(session, settings.migration_lock_timeout)
        ensure_role(session, settings)
        with migration.Watch(settings, session.info.backend_pid) as watch:
            run(connection, settings.migration_retries, watch)
        ensure_role(session, settings)
        logger.info("the schema is at %s", ", ".join(context.get_context().get_current_heads()) or "base")


def run(connection: Connection, retries: int, watch: migration.Watch) -> None:
    """Run the migrations; one that does not get a lock in time is tried again, from where the schema is by then."""
    for attempt in range(retries + 1):
        try:
            with context.begin_transaction():
                context.run_migrations()
        except DBAPIError as error:
            connection.rollback()
            if not migration.is_lost_race(error.orig):
                raise
            if attempt == retries:
                raise CommandError(f"{one_line(error)}; {watch.blockers}") from error
            # Between two tries, those who queued behind us get their turn.
            pause = min(0.5 * 2**attempt, 5)
            logger.warning(
                "%s (%s); try %d of %d in %g s", one_line(error), watch.blockers, attempt + 2, retries + 1, pause
            )
            time.sleep(pause)
            configure(connection=connection)
        else:
            return


def ensure_role(session: "psycopg.Connection[Any]", settings: MigrationSettings) -> None:
    """Make or repair the application's role, when one is named."""
    name = settings.app_db_user
    if name and roles.ensure(session, name, settings.app_db_password.get_secret_value()):
        logger.info('made the application\'s role "%s"', name)


def one_line(error: DBAPIError) -> str:
    """Return what the database said, without the statement and its values."""
    return " ".join(str(error.orig).split())


def set_up_logs() -> None:
    """Write what happens as plain lines; to stderr where the command's own result is what belongs on stdout."""
    command = getattr(context.config.cmd_opts, "cmd", [None])[0]
    changes = command in (upgrade, downgrade, stamp) and not context.is_offline_mode()
    logging.basicConfig(
        level=logging.WARNING,
        format="%(levelname)s %(message)s",
        stream=sys.stdout if changes else sys.stderr,
    )
    logger.setLevel(logging.INFO)
    migration.logger.setLevel(logging.INFO)
    alembic = logging.getLogger("alembic.runtime.migration")
    alembic.setLevel(logging.INFO)
    # Which dialect it assumes is no news.
    alembic.addFilter(lambda record: record.levelno > logging.INFO or str(record.msg).startswith("Running"))
    # One line for each difference between models and database.
    logging.getLogger("alembic.autogenerate").setLevel(logging.INFO)
    # What Alembic prints as FAILED it logs as well.
    logging.getLogger("alembic.util.messaging").setLevel(logging.CRITICAL)


# Alembic runs this file; a caller that is no command line has logging of its own.
if context.config.cmd_opts is not None:
    set_up_logs()
try:
    chosen = load(MigrationSettings)
    if context.is_offline_mode():
        write_sql(chosen)
    else:
        migrate(chosen)
except DBAPIError as error:
    # Alembic prints a CommandError as one line; `alembic --raiseerr` shows the cause and the statement.
    raise CommandError(one_line(error)) from error
except (SettingsError, migration.LockTimeout, roles.RoleError) as error:
    raise CommandError(str(error)) from error
