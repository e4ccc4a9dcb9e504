"""Property tests: how many examples are drawn, which ones, and how a failure is repeated.

By default the same few examples are drawn in every run. With SOAK=1 other ones are drawn in each run, and many more:

    SOAK=1 pytest tests/unit/root/test_redaction_properties.py
    SOAK=1 SOAK_EXAMPLES=300 pytest tests/contract/test_compose_properties.py --hypothesis-seed=5

The seed is in the report's header; with it the same tests draw the same examples again. A failure also prints a
`@reproduce_failure` line, which repeats that one example.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

#: Whether this run looks for what the usual one does not draw.
SOAKING: Final = bool(os.environ.get("SOAK"))
#: How many examples each test draws then.
SOAK_EXAMPLES: Final = int(os.environ.get("SOAK_EXAMPLES", "1000"))
#: How many examples a test usually draws: where `docker compose` judges each one, and where nothing else is started.
JUDGED_EXAMPLES: Final = 25
PURE_EXAMPLES: Final = 100

# Times tell of the machine, and a database of what was run before.
settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "soak", settings.get_profile("repeatable"), derandomize=False, print_blob=True, max_examples=SOAK_EXAMPLES
)
settings.load_profile("soak" if SOAKING else "repeatable")
# Hypothesis also draws constants of the modules that are loaded: examples would depend on which tests ran before.
providers._get_local_constants = lambda: providers._local_constants


def examples(usual: int = PURE_EXAMPLES, *, fixtures_shared: bool = False) -> settings:
    """Return the decorator of a property test that usually draws that many examples.

    With `fixtures_shared` all of them share the test's fixtures, and the test leaves these as it found them each time.
    """
    shared = [HealthCheck.function_scoped_fixture] if fixtures_shared else []
    return settings(
        max_examples=SOAK_EXAMPLES if SOAKING else usual, suppress_health_check=[HealthCheck.too_slow, *shared]
    )
