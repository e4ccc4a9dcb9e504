"""`make bench`: measure, and print the table; `python -m tests.bench --help` tells what may be chosen."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench.cases import CASES
from tests.bench.measure import Row, measure
from tests.bench.picture import picture
from tests.bench.report import as_json, table
from tests.sandbox import RUN_PREFIX, remove_leftovers, remove_orphaned_leftovers, remove_test_image

ROUNDS = 5


def main() -> None:
    """Measure the cases that are asked for, and print what came of it."""
    known = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure stockhelper beside others.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(known)}; all of them by default")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"how often ({ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured into a file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it into a file, as SVG")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(known):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    remove_orphaned_leftovers()
    try:
        for case in CASES:
            if not options.cases or case.name in options.cases:
                rows += measure(case, options.rounds, lambda line: print(line, file=sys.stderr, flush=True))
    finally:
        remove_leftovers(RUN_PREFIX)
        remove_test_image()
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(as_json(rows, options.rounds), indent=1, ensure_ascii=False) + "\n")
    if options.picture:
        options.picture.write_text(picture(rows))


if __name__ == "__main__":
    main()
