"""What the tests of backups share: rows whose text depends on settings, and a look at what is kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.sandbox import Sandbox

#: Rows of every kind of value whose text depends on settings; the column `t` is as a careless checksum would trip over.
SENTINELS = (
    "CREATE TABLE sentinels (id int PRIMARY KEY, t text, moment timestamptz, number float8, bytes bytea, wide jsonb);"
    " INSERT INTO sentinels SELECT g, md5(g::text), now() + g * interval '1 h', random(), decode(md5(g::text), 'hex'),"
    " jsonb_build_object('of', g) FROM generate_series(1, 2000) g; GRANT SELECT ON sentinels TO stockhelper_app;"
    ' CREATE TABLE parents (id int); CREATE TABLE "Odd name" (x int) INHERITS (parents);'
    ' INSERT INTO "Odd name" VALUES (1, 2)'
)


COUNT = "SELECT count(*) FROM sentinels"


#: What is left with the database of its newest verified backup, for the metrics.
NEWEST = (
    "SELECT entry FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) entry"
    " WHERE datname = 'stockhelper' AND entry LIKE 'stockhelper.%'"
)


#: Runs a command, and prints the most memory that it had, in KiB.
_MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_memory(project: Sandbox, *arguments: str) -> int:
    """Return the most memory that a command has, in KiB.

    A small process measures it: the memory of a child counts from its fork, when it is still that of its parent.
    """
    done = project.launch([sys.executable, "-c", _MEASURED, *project.command(*arguments)])
    assert done.code == 0, done.err
    return int(done.out)


def create(project: Sandbox, *arguments: str, environment: Mapping[str, str] | None = None) -> Path:
    result = project.run("backup", "create", "--json", *arguments, environment=environment)
    assert result.code == 0, result.out + result.err
    return Path(result.json["result"]["file"])


def databases(project: Sandbox) -> list[str]:
    names = project.psql("SELECT datname FROM pg_database WHERE datname NOT IN ('template0', 'template1', 'postgres')")
    return sorted(names.splitlines())


def files(project: Sandbox) -> set[str]:
    return {path.name for path in (project.root / "backups").iterdir()}
