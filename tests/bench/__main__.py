"""`make bench`: how a backup compares with the plain way to stream a dump, and what its checks add."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.sandbox import Sandbox, sandbox

ROUNDS = 5
#: About 70 MB in the dump.
ROWS = 1_500_000
FILL = (
    "CREATE TABLE ticks (id int, moment timestamptz, price float8, note text);"
    " INSERT INTO ticks SELECT g, now() + g * interval '1 s', random(), md5(g::text) || md5((g + 1)::text)"
    f" FROM generate_series(1, {ROWS}) g; CHECKPOINT"
)


def main() -> None:
    """Print a line for each part: seconds and ratio to `docker exec … pg_dump > file`, as min, median and max."""
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder)) as project:
        project.up()
        project.psql(FILL)
        plain: list[float] = []
        parts: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            plain.append(_plain_dump(project, Path(folder) / "plain.dump"))
            answer = project.run("backup", "create", "--verify", "--json").json["result"]
            for part, seconds in answer["seconds"].items():
                parts.setdefault(part, []).append(seconds)
        size = answer["size"]
    print(f"a dump of {size / 1e6:.0f} MB, {ROUNDS} rounds: min / median / max")
    print(f"{'docker exec … pg_dump > file':32}{_seconds(plain)}")
    for part, values in parts.items():
        ratios = [mine / theirs for mine, theirs in zip(values, plain, strict=True)]
        print(f"{f'backup create: {part}':32}{_seconds(values)}   {statistics.median(ratios):5.2f} × the plain dump")


def _plain_dump(project: Sandbox, target: Path) -> float:
    began = time.monotonic()
    with target.open("wb") as file:
        command = ["docker", "exec", f"{project.name}-db-1", "pg_dump", "-Fc", "-U", "stockhelper", "stockhelper"]
        subprocess.run(command, stdout=file, check=True)
    return time.monotonic() - began


def _seconds(values: Sequence[float]) -> str:
    return f"{min(values):7.2f} /{statistics.median(values):6.2f} /{max(values):6.2f} s"


if __name__ == "__main__":
    main()
