"""What the commands of the benchmarks have in common: what may be chosen, and what is printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tests.bench.measure import Case, Row, measure
from tests.bench.report import as_json, table

ROUNDS = 5


def run(
    parser: argparse.ArgumentParser, cases: Sequence[Case], around: AbstractContextManager[object] | None = None
) -> tuple[argparse.Namespace, list[Row]]:
    """Measure the cases that are asked for within `around`, and print what came of it; return it, and the options."""
    known = [case.name for case in cases]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(known)}; all of them by default")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"how often ({ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured into a file")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(known):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    with around or nullcontext():
        for case in cases:
            if not options.cases or case.name in options.cases:
                rows += measure(case, options.rounds, lambda line: print(line, file=sys.stderr, flush=True))
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(as_json(rows, options.rounds), indent=1, ensure_ascii=False) + "\n")
    return options, rows
