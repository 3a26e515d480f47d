"""Pages of the console, in the order of the navigation."""

from __future__ import annotations

from typing import Final

from worker.console.page import Page
from worker.console.pages import (
    dead_letters,
    diagnostics,
    evidence,
    overview,
    policies,
    replay,
)

PAGES: Final[tuple[Page, ...]] = (
    overview.PAGE,
    dead_letters.PAGE,
    replay.PAGE,
    evidence.PAGE,
    policies.PAGE,
    diagnostics.PAGE,
)
