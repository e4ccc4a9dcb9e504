"""`make bench`: measure, and print the table; `python -m tests.bench --help` tells what may be chosen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.cases import CASES
from tests.bench.command import run
from tests.bench.picture import picture
from tests.support.sandbox import RUN_PREFIX, remove_leftovers, remove_orphaned_leftovers, remove_test_image


def main() -> None:
    """Measure the commands, and draw what came of it if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure stockhelper beside others.")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it into a file, as SVG")
    options, rows = run(parser, CASES, leaving_nothing())
    if options.picture:
        options.picture.write_text(picture(rows))


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """Remove what the block leaves on the engine, and what an earlier one that was killed has left."""
    remove_orphaned_leftovers()
    try:
        yield
    finally:
        remove_leftovers(RUN_PREFIX)
        remove_test_image()


if __name__ == "__main__":
    main()
