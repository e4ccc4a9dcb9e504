"""What tests of several folders share. No test imports another test's module, or the conftest of another folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: The project's root.
ROOT: Final = Path(__file__).parents[2]
#: Every name that tests give to something on the engine begins with it; leftovers are found by it.
PREFIX: Final = "shtest-"
