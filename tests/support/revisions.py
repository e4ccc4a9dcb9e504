"""The migrations as they lie in the sources, so that no test has to be touched when one is added."""

from __future__ import annotations

from tests.support import ROOT

#: Every revision, in the order in which they run; a test of the migrations holds the numbering to that.
REVISIONS = tuple(sorted(path.name[:4] for path in (ROOT / "migrations/versions").glob("*.py")))
HEAD = REVISIONS[-1]
#: What the next one would be called.
NEXT = f"{len(REVISIONS) + 1:04}"
