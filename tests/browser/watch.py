"""Watch over everything that no page of the console may do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

# Hostile texts increase this variable.
_TRAP: Final = """
Object.defineProperty(window, "executed", {
  set() { console.error("a text of a message executed"); }
});
addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


class Watch:
    """Problems of the pages in a browser context.

    Args:
        context: The browser context.
        base: Origin of the console.

        expected: Pattern of permitted messages, such as those of refused requests; empty for none.
    """

    def __init__(self, context: BrowserContext, base: str, expected: str = "") -> None:
        self._base = base
        self._expected = expected
        self._problems: list[str] = []
        context.add_init_script(_TRAP)
        context.on("console", self._on_message)
        context.on("weberror", lambda error: self._problems.append(f"script failed: {error.error}"))
        context.on("dialog", lambda dialog: self._problems.append(f"dialog: {dialog.message}"))
        context.on("request", self._on_request)
        context.on("page", lambda page: page.on("crash", self._on_crash))

    def problems(self) -> list[str]:
        """Return the problems that were not expected."""
        if not self._expected:
            return self._problems
        return [each for each in self._problems if not re.search(self._expected, each)]

    def _on_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            place = message.location.get("url", "")
            self._problems.append(f"{message.type} in the console: {message.text} ({place})")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self._base}/", "data:", "blob:", "about:")):
            self._problems.append(f"request to another origin: {request.url}")

    def _on_crash(self, page: Page) -> None:
        self._problems.append(f"crashed: {page.url}")
