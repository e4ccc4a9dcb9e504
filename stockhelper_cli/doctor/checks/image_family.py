"""`image.family`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from stockhelper_cli import labels
from stockhelper_cli.database.psql import Credentials, database_service
from stockhelper_cli.database.server import Server, ServerError
from stockhelper_cli.doctor.check import Check, Group, ok, skipped, warning

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.engine.protocol import Container
    from stockhelper_cli.findings import Finding

#: The number of the user `postgres` in the official images, by their C library, and in the stand-in.
_UID: Final = {"Alpine (musl)": 70, "Debian (glibc)": 999, "the stand-in (glibc)": 70}
#: Locales whose order of text is that of the code points, whatever the C library.
_SAFE: Final = "('c', 'posix', 'c.utf8')"
#: Databases and indexes whose order of text is the C library's.
_DATABASES: Final = f"""SELECT count(*) FROM pg_database
WHERE datlocprovider = 'c' AND replace(lower(datcollate), '-', '') NOT IN {_SAFE}"""
_INDEXES: Final = f"""SELECT count(*) FROM pg_index i, unnest(i.indcollation::oid[]) AS used
JOIN pg_collation c ON c.oid = used
WHERE c.collprovider = 'c' AND replace(lower(c.collcollate), '-', '') NOT IN {_SAFE}"""


class ImageFamily(Check):
    """Compares the family of the database's image with that of the one that its container was made of.

    Families differ in the number of the user that owns the files, and in the order of text by which indexes over
    anything but the C collation were built: a server of the other family reads those wrongly, without a word.
    """

    id = "image.family"
    group = Group.IMAGES
    title = "the database's image is of the family that its volume was served by"
    needs = ("engine.answers",)
    explains = frozenset({"service.exited", "service.unhealthy"})

    def examine(self, context: Context) -> Finding:
        """Compare the image that is wanted with the container's."""
        service = database_service(context.project.services)
        own = context.state.of_service(service.name) if service else []
        image = context.state.images.get(service.image) if service else None
        if service is None or not own or image is None:
            return skipped("there is no database yet, or no image for it")
        container = own[0]
        before = _family(container.image, _environment(container), container.labels)
        wanted = _family(service.image, image.environment, image.labels)
        if before == wanted or not before or not wanted:
            return ok(wanted or f"{service.image} does not tell its family")
        dangers = []
        if _UID[before] != _UID[wanted]:
            dangers.append(
                f"the files belong to user {_UID[before]}; the new server is user {_UID[wanted]}, and refuses"
            )
        dangers += _order_of_text(context, container, Credentials.of(service.environment))
        if not dangers:
            return ok(f"from {before} to {wanted}: all text is in the C collation, which is the same on both")
        return warning(
            f"{service.image} is {wanted}, and the volume has been served by {before}",
            *dangers,
            remedy=f"set POSTGRES_IMAGE back to {container.image}; to change it, take a dump over to a new volume:",
            commands=["stockhelper backup create", "stockhelper restore --latest"],
        )


def _environment(container: Container) -> Mapping[str, str]:
    return dict(entry.partition("=")[::2] for entry in container.settings.get("Env") or ())


def _family(reference: str, environment: Mapping[str, str], image_labels: Mapping[str, str]) -> str:
    """Return an image's family, "" if it does not tell.

    The official images tell it by their tag, and by PG_VERSION, which is a Debian package's version in one of them.
    """
    tag = reference.rpartition(":")[2]
    if "alpine" in tag:
        return "Alpine (musl)"
    if "pgdg" in environment.get("PG_VERSION", ""):
        return "Debian (glibc)"
    if labels.BASE_RECIPE in image_labels:
        return "the stand-in (glibc)"
    return "Alpine (musl)" if "PG_VERSION" in environment else ""


def _order_of_text(context: Context, container: Container, credentials: Credentials) -> list[str]:
    """Return what depends on the C library's order of text; a server that does not run cannot be asked."""
    if not container.running:
        return ["whether an index depends on the C library's order of text is not known: the database does not run"]
    server = Server(context.engine, container.id, credentials.user)
    try:
        databases = server.rows(_DATABASES)[0][0]
        indexes = sum(int(server.rows(_INDEXES, database=name)[0][0]) for name in server.databases())
    except ServerError as error:
        return [f"whether an index depends on the C library's order of text is not known: {error}"]
    if databases == "0" and not indexes:
        return []
    return [f"{databases} databases and {indexes} indexes are in the order of text of the C library, which changes"]
